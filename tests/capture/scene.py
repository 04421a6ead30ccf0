"""The scenes by their names, which are those of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.capture import fault, life, query, room, roster, talk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.capture.stage import Stage

SCENES: Final[Mapping[str, Callable[[Stage], Awaitable[None]]]] = {
    scene.__name__: scene
    for scene in (
        *(talk.chat, talk.notice, talk.forward, talk.unicode, talk.large),
        *(room.room, roster.presence, roster.presence_posted),
        *(query.query, query.query_posted, query.command, query.form),
        *(fault.bounce, fault.error, fault.retry),
        *(life.shutdown, life.restart, life.conflict, life.wrong_secret, life.unknown_host),
    )
}
