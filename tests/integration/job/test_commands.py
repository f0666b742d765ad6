"""What a run costs: the commands that job sends to MongoDB for it."""

from common.ids import new_id
from services.job.adapters.mongodb.database import JobDatabase
from services.job.ports import Handover
from tests.support.query_plans import recorded
from tests.support.run_bench import a_run


async def test_that_front_knows_an_end_is_written_without_waiting_for_the_journal(
    mongodb_uri: str, database_name: str
) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        run = a_run()
        await database.runs.submit(run, Handover(new_id(), 30))
        await database.runs.complete(run.id, 1, [])
        assert len(recorder.journaled) == 2, "what a run becomes is durable"
        recorder.journaled.clear()
        await database.runs.settle([run.id])
        assert recorder.journaled == []
        assert await client[database_name]["runs"].count_documents({"reportDueAt": {"$exists": True}}) == 0
