"""EXIF (CIPA DC-008) and the tags of TIFF 6.0, by name.

Only what is in these tables is ever read: so no maker's notes, thumbnails, XMP or IPTC, all of which can hold a place;
and no libexif, which makes up the values that a file lacks. Nothing is followed twice, and all numbers have limits.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from gristmill.texts import MAX_CHARACTERS, plain_text

MAX_ENTRIES = 500
MAX_VALUES = 32
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_NAMES = {
    0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x0112: "Orientation", 0x011A: "XResolution",
    0x011B: "YResolution", 0x0128: "ResolutionUnit", 0x0131: "Software", 0x0132: "DateTime", 0x013B: "Artist",
    0x013C: "HostComputer", 0x8298: "Copyright", 0x829A: "ExposureTime", 0x829D: "FNumber",
    0x8822: "ExposureProgram", 0x8827: "PhotographicSensitivity", 0x8830: "SensitivityType", 0x9000: "ExifVersion",
    0x9003: "DateTimeOriginal", 0x9004: "DateTimeDigitized", 0x9010: "OffsetTime", 0x9011: "OffsetTimeOriginal",
    0x9012: "OffsetTimeDigitized", 0x9201: "ShutterSpeedValue", 0x9202: "ApertureValue", 0x9203: "BrightnessValue",
    0x9204: "ExposureBiasValue", 0x9205: "MaxApertureValue", 0x9206: "SubjectDistance", 0x9207: "MeteringMode",
    0x9208: "LightSource", 0x9209: "Flash", 0x920A: "FocalLength", 0x9286: "UserComment", 0x9290: "SubSecTime",
    0x9291: "SubSecTimeOriginal", 0x9292: "SubSecTimeDigitized", 0xA001: "ColorSpace", 0xA002: "PixelXDimension",
    0xA003: "PixelYDimension", 0xA20E: "FocalPlaneXResolution", 0xA20F: "FocalPlaneYResolution",
    0xA210: "FocalPlaneResolutionUnit", 0xA217: "SensingMethod", 0xA300: "FileSource", 0xA301: "SceneType",
    0xA401: "CustomRendered", 0xA402: "ExposureMode", 0xA403: "WhiteBalance", 0xA404: "DigitalZoomRatio",
    0xA405: "FocalLengthIn35mmFilm", 0xA406: "SceneCaptureType", 0xA407: "GainControl", 0xA408: "Contrast",
    0xA409: "Saturation", 0xA40A: "Sharpness", 0xA40C: "SubjectDistanceRange", 0xA430: "CameraOwnerName",
    0xA431: "BodySerialNumber", 0xA432: "LensSpecification", 0xA433: "LensMake", 0xA434: "LensModel",
    0xA435: "LensSerialNumber",
}  # fmt: skip
_GPS_NAMES = {
    1: "LatitudeRef", 2: "Latitude", 3: "LongitudeRef", 4: "Longitude", 5: "AltitudeRef", 6: "Altitude",
    7: "TimeStamp", 12: "SpeedRef", 13: "Speed", 16: "ImgDirectionRef", 17: "ImgDirection", 29: "DateStamp",
    31: "HPositioningError",
}  # fmt: skip
_BYTE, _ASCII, _RATIONAL, _UNDEFINED, _SRATIONAL, _UTF8 = 1, 2, 5, 7, 10, 129
_FORMATS = {
    _BYTE: "B", _ASCII: "c", 3: "H", 4: "I", _RATIONAL: "2I", 6: "b", _UNDEFINED: "c", 8: "h", 9: "i",
    _SRATIONAL: "2i", 11: "f", 12: "d", _UTF8: "c",
}  # fmt: skip


def read_exif(source: IO[bytes], *, location: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values by the names of their tags, and, if `location`, those of where the picture was taken.

    `source` is a TIFF file, or the block that other pictures have. What is broken is left out.
    """
    try:
        tiff = _Tiff.begun(source)
        main = dict(tiff.entries(tiff.first))
        found = main | dict(tiff.entries(tiff.offset(main.get(_EXIF_IFD))))
        places = dict(tiff.entries(tiff.offset(main.get(_GPS_IFD)))) if location else {}
        return tiff.named(found, _NAMES), _place(tiff.named(places, _GPS_NAMES))
    except (struct.error, OSError, ValueError):
        return {}, {}


def read_exif_block(block: bytes, *, location: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_exif(io.BytesIO(block.removeprefix(b"Exif\0\0")), location=location)


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    count: int
    value: bytes


@dataclass(frozen=True, slots=True)
class _Tiff:
    source: IO[bytes]
    order: str
    first: int

    @classmethod
    def begun(cls, source: IO[bytes]) -> "_Tiff":
        head = source.read(8)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or struct.unpack(f"{order}H", head[2:4]) != (42,):
            raise ValueError("This isn't a TIFF, or a BigTIFF.")
        return cls(source, order, struct.unpack(f"{order}I", head[4:])[0])

    def entries(self, offset: int) -> Iterator[tuple[int, _Entry]]:
        """The tags of one directory; none for one at 0, and as much as there is of one that is cut short."""
        if not offset:
            return
        self.source.seek(offset)
        (count,) = struct.unpack(f"{self.order}H", self.source.read(2))
        table = self.source.read(12 * min(count, MAX_ENTRIES))
        for start in range(0, len(table) - 11, 12):
            tag, kind, values, value = struct.unpack_from(f"{self.order}HHI4s", table, start)
            yield tag, _Entry(kind, values, value)

    def offset(self, entry: _Entry | None) -> int:
        return struct.unpack(f"{self.order}I", entry.value)[0] if entry else 0

    def named(self, entries: dict[int, _Entry], names: dict[int, str]) -> dict[str, Any]:
        values = ((names[tag], self.value(entry)) for tag, entry in entries.items() if tag in names)
        return {name: value for name, value in values if value not in (None, "", [])}

    def value(self, entry: _Entry) -> Any:
        """A text, a number, or several; None for what is broken, empty, or far too much."""
        code = _FORMATS.get(entry.kind)
        if code is None or not entry.count:
            return None
        most = 4 * MAX_CHARACTERS if code == "c" else MAX_VALUES
        if code != "c" and entry.count > most:
            return None
        size = struct.calcsize(f"{self.order}{code}") * min(entry.count, most)
        data = entry.value[:size]
        if size > len(entry.value):
            self.source.seek(self.offset(entry))
            data = self.source.read(size)
        if code == "c":
            return _text(entry.kind, data)
        if len(data) < size:
            return None
        numbers = struct.unpack(f"{self.order}{code * entry.count}", data)
        if entry.kind in (_RATIONAL, _SRATIONAL):
            pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
            if not all(below for _, below in pairs):
                return None
            numbers = tuple(round(above / below, 8) for above, below in pairs)
        if not all(abs(number) < 1e30 for number in numbers):  # neither infinite nor no number
            return None
        return numbers[0] if len(numbers) == 1 else list(numbers)


def _text(kind: int, data: bytes) -> Any:
    if kind == _UNDEFINED:
        if len(data) == 1:
            return data[0]
        charset, content = data[:8], data[8:]
        if charset == b"UNICODE\0":
            return plain_text(content.decode("utf-16", "ignore"))
        data = content if charset in (b"ASCII\0\0\0", bytes(8)) else data
    data = data.split(b"\0", 1)[0]
    try:
        return plain_text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return plain_text(data.decode("latin-1"))


def _place(named: dict[str, Any]) -> dict[str, Any]:
    """Degrees as one number, south and west below zero, and metres above the sea; and the rest as it is."""
    place: dict[str, Any] = {}
    for name, negative in (("Latitude", "S"), ("Longitude", "W")):
        parts, side = named.pop(name, None), named.pop(f"{name}Ref", "")
        if isinstance(parts, list) and len(parts) == 3:
            degrees = sum(part / 60**n for n, part in enumerate(parts))
            place[name] = round(-degrees if side == negative else degrees, 7)
    below, altitude = named.pop("AltitudeRef", 0), named.pop("Altitude", None)
    if isinstance(altitude, int | float):
        place["Altitude"] = -altitude if below == 1 else altitude
    return place | named
