"""PostgreSQL as the tests start it: what it has confirmed survives a crash and a promotion."""

from __future__ import annotations

import pytest

from tests.servers.postgres import Postgres, ReplicatedPostgres
from tests.servers.process import ServerFailed

pytestmark = pytest.mark.postgres


async def test_what_is_committed_survives_a_crash_and_the_rest_does_not(postgres: Postgres) -> None:
    await postgres.psql("CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")
    url = postgres.url
    await postgres.crash()
    assert not postgres.is_up
    with pytest.raises(ServerFailed, match="Connection refused"):
        await postgres.psql("SELECT 1")
    await postgres.start()
    assert postgres.url == url
    assert await postgres.psql("SELECT n FROM kept") == "1\n"
    assert "was not properly shut down" in postgres.log.read_text()
    await postgres.stop()
    await postgres.start()
    assert postgres.log.read_text().count("was not properly shut down") == 1


async def test_an_error_of_a_statement_is_told(postgres: Postgres) -> None:
    with pytest.raises(ServerFailed, match='relation "nowhere" does not exist'):
        await postgres.psql("SELECT 1 FROM nowhere")


async def test_bad_setting_is_told_and_nothing_is_left_behind() -> None:
    server = Postgres({"no_such_setting": "1"})
    place = server.log.parent
    with pytest.raises(ServerFailed, match="no_such_setting"):
        await server.__aenter__()
    assert not place.exists()


async def test_a_standby_takes_the_place_of_its_primary_with_all_that_was_confirmed() -> None:
    async with ReplicatedPostgres({"fsync": "off"}) as pair:
        url = pair.url
        await pair.primary.psql("CREATE TABLE kept (n int)")
        for number in range(1, 3):
            first, standby = pair.primary, pair.standby
            assert standby is not None
            assert await standby.psql("SELECT pg_is_in_recovery()") == "t\n"
            await first.psql(f"INSERT INTO kept VALUES ({number})")
            await pair.fail_over()
            assert (pair.primary, pair.standby, pair.url) == (standby, first, url)
            assert not first.is_up
            count = await pair.primary.psql("SELECT count(*) FROM kept")
            assert count == f"{number}\n"
            await pair.rebuild_standby()
