"""Schemas of the kinds that Kubernetes itself doesn't have, as far as we use them; a field that isn't here is refused.

Sources: the references of KEDA (ScaledObject, scaler "prometheus") and of the Prometheus operator.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

Duration = Annotated[str, StringConstraints(pattern=r"^\d+(ms|s|m|h)$")]
Number = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?$")]


class Strict(BaseModel):
    """Knows its fields by their names in camel case, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    """As of every object."""

    name: str
    namespace: str
    labels: dict[str, str] = {}


class ScaleTarget(Strict):
    """What is scaled."""

    api_version: Literal["apps/v1"]
    kind: Literal["Deployment"]
    name: str


class PrometheusQuery(Strict):
    """What the scaler asks; all values are strings there, numbers too."""

    server_address: Annotated[str, StringConstraints(pattern="^https?://")]
    query: str
    threshold: Number
    activation_threshold: Number


class Trigger(Strict):
    """By what is scaled."""

    type: Literal["prometheus"]
    metric_type: Literal["AverageValue", "Value"]
    metadata: PrometheusQuery


class Fallback(Strict):
    """How many there are while nothing can be asked."""

    failure_threshold: int = Field(ge=1)
    replicas: int = Field(ge=0)


class Scaling(Strict):
    """From and to how many, and how fast."""

    scale_target_ref: ScaleTarget
    min_replica_count: int = Field(ge=0)
    max_replica_count: int = Field(ge=1)
    polling_interval: int = Field(ge=1)
    cooldown_period: int = Field(ge=0)
    fallback: Fallback
    triggers: list[Trigger] = Field(min_length=1)


class ScaledObject(Strict):
    """KEDA's."""

    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: Scaling


class Selector(Strict):
    """Which Services."""

    match_labels: dict[str, str]


class Endpoint(Strict):
    """Where numbers are read."""

    port: str
    path: Annotated[str, StringConstraints(pattern="^/")]
    interval: Duration
    scrape_timeout: Duration


class Monitoring(Strict):
    """What is read."""

    selector: Selector
    endpoints: list[Endpoint] = Field(min_length=1)


class ServiceMonitor(Strict):
    """The Prometheus operator's."""

    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: Monitoring


class Rule(Strict):
    """An alert."""

    alert: str
    expr: str
    for_: Duration = Field(alias="for")
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(Strict):
    """Rules that are looked at together."""

    name: str
    rules: list[Rule] = Field(min_length=1)


class Groups(Strict):
    """All rules."""

    groups: list[Group] = Field(min_length=1)


class PrometheusRule(Strict):
    """The Prometheus operator's."""

    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: Groups


CUSTOM: dict[str, type[Strict]] = {kind.__name__: kind for kind in (ScaledObject, ServiceMonitor, PrometheusRule)}
