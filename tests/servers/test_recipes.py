"""The manual's recipes, each in its three languages, with one Prosody, one daemon, and a person.

Each program has a component and a person of its own, and is configured by the page's table. What
is asserted is what the person's client makes of the stanzas.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final

import pytest
import trio

from tests.servers.conftest import MUC
from tests.servers.daemon import Table, run_daemon, settings_for
from tests.servers.person import Person, log_in
from tests.servers.process import LOOPBACK, reserve_port
from tests.servers.prosody import Prosody
from tests.servers.recipe import (
    FRAME,
    LANGUAGES,
    PAGE,
    missing,
    recipes,
    replace,
    run,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

RECIPES: Final = recipes()
TOKEN: Final = "a-token-of-the-bots-0123"
PASSWORD: Final = "pw"
PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
COMMANDS: Final = "http://jabber.org/protocol/commands"
CAT: Final = "https://example.com/cat.png"
MAX_LINES: Final = 25


@dataclass
class Stage:
    """All that the programs share; `ports` are reserved for them, by name."""

    directory: Path
    ports: dict[str, socket.socket]
    listener: socket.socket
    c2s_port: int = field(default=0, init=False)

    def replaced(self, name: str) -> dict[str, str]:
        """What stands in a program or a command in place of what is on the page."""
        return {
            "alice@localhost": f"{name}@localhost",
            "127.0.0.1:5280": f"{LOOPBACK}:{self.listener.getsockname()[1]}",
            "robot@bot.localhost": f"robot@{name}.localhost",
            "lobby@rooms.localhost": f"{name}@{MUC}",
        }


def name_of(task: str, language: str) -> str:
    """The name of a program's component, account and room: such as `react-php`."""
    return f"{task.split()[0].lower()}-{language}"


PROGRAMS: Final = {
    name_of(task, language): (RECIPES[task], language)
    for task, language in product(RECIPES, LANGUAGES)
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A Prosody and a daemon, which run in a thread of their own, since slixmpp needs asyncio."""
    directory = tmp_path_factory.mktemp("recipes")
    stage = Stage(directory, {name: reserve_port() for name in PROGRAMS}, reserve_port())
    started, stop = threading.Event(), trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        users = dict.fromkeys(PROGRAMS, PASSWORD)
        secrets = {f"{name}.localhost": "secret" for name in PROGRAMS}
        async with (
            Prosody(directory, components=secrets, users=users, muc=MUC) as server,
            run_daemon(directory, settings(stage, server.component_port)),
        ):
            stage.c2s_port = server.c2s_port
            tokens.append(trio.lowlevel.current_trio_token())
            started.set()
            await stop.wait()

    with ThreadPoolExecutor() as executor:
        served = executor.submit(trio.run, serve)
        served.add_done_callback(lambda _: started.set())
        started.wait()
        try:
            if tokens:
                yield stage
        finally:
            for token in tokens:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(stop.set)
            served.result()
            for held in (*stage.ports.values(), stage.listener):
                held.close()


def settings(stage: Stage, component_port: int) -> Table:
    """One component for each program, with what the page's table says."""
    components: dict[str, Table] = {}
    for name, (recipe, _) in PROGRAMS.items():
        components[f"{name}.localhost"] = {
            "component_secret": "secret",
            "component_post_url": f"http://{LOOPBACK}:{stage.ports[name].getsockname()[1]}/",
            "component_post_stanzas": list(recipe.kinds),
            "component_post_events": list(recipe.events),
        }
        if "toml" in recipe.code:
            (given,) = tomllib.loads(recipe.code["toml"])["component"].values()
            components[f"{name}.localhost"]["command"] = given["command"]
    token = {"name": "bot", "secret": TOKEN, "scopes": ["send", "query"]}
    address = f"{LOOPBACK}:{stage.listener.getsockname()[1]}"
    return settings_for(component_port, components, listen={"address": address, "token": [token]})


@dataclass(frozen=True)
class Bot:
    """A program that runs: its address, and a room of its own."""

    jid: str
    room: str
    enter_room: Callable[[], None]
    """Run the command of the page by which a bot enters a room."""


Scenario = Callable[[Bot, Person], Awaitable[None]]
SCENARIOS: Final[dict[str, Scenario]] = {}


def of(task: str) -> Callable[[Scenario], Scenario]:
    """Register what a person does with the program of a task, and sees."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[task] = scenario
        return scenario

    return register


@of("Greet by nickname in a room")
async def greet(bot: Bot, person: Person) -> None:
    await person.enter(bot.room, "alice")
    bot.enter_room()
    await person.see(f"{bot.room}/robot")
    for said, answer in {
        "robot, hello": "Hello alice!",
        "Robot?": "alice: say hello to me.",
    }.items():
        for text in ("Is a robotics expert here?", said):
            person.say(bot.room, text, "groupchat")
            assert (await person.hear())["body"] == text
        heard = await person.hear()
        assert (heard["from"], heard["type"]) == (f"{bot.room}/robot", "groupchat")
        assert heard["body"] == answer
    person.say(f"{bot.room}/robot", "psst")
    heard = await person.hear()
    assert (heard["from"], heard["type"]) == (f"{bot.room}/robot", "chat")
    assert heard["body"] == "Hello alice, nobody else can read this."


@of("Send a picture")
async def picture(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "cat")
    assert (await person.hear())["body"] == "Here is a cat."
    shown = await person.hear()
    assert shown["body"] == shown["oob"]["url"] == CAT  # so that clients show it
    assert shown["sfs"]["sources"]["url-data"]["target"] == CAT
    assert shown["sfs"]["file"]["media-type"] == "image/png"
    sent = person.client.make_message(mto=bot.jid, mbody=CAT, mtype="chat")
    sent["oob"]["url"] = CAT
    person.send(sent)
    assert (await person.hear())["body"] == f"You have sent me {CAT}."


@of("Type before a slow answer")
async def typing(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "life")
    notice, answer = await person.hear(), await person.hear()
    assert (notice["chat_state"], notice["body"]) == ("composing", "")
    assert (answer["chat_state"], answer["body"]) == ("active", "The answer to life is 42.")


@of("Correct a message")
async def correct(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "deploy 1.2")
    first, second = await person.hear(), await person.hear()
    assert [first["body"], second["body"]] == ["Deploying …", "Deployed."]
    assert second["replace"]["id"] == first["id"]
    mistyped = person.say(bot.jid, "helo")
    first = await person.hear()
    correction = person.client.make_message(mto=bot.jid, mbody="hello", mtype="chat")
    correction["replace"]["id"] = mistyped
    person.send(correction)
    second = await person.hear()
    assert second["body"] == "Did you say hello?"
    assert second["replace"]["id"] == first["id"]


@of("React to a message")
async def react(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "Hi")
    joke = await person.hear()
    assert joke["body"] == "Knock, knock."
    for emoji, answer in (({"🙂"}, "🙂"), (set(), "nothing")):
        person.plugin("0444").send_reactions(bot.jid, joke["id"], emoji)
        assert (await person.hear())["body"] == f"You reacted with {answer}."
    thanks = person.say(bot.jid, "Thank you!")
    reaction = await person.hear()
    assert (reaction["reactions"]["id"], reaction["body"]) == (thanks, "")
    assert reaction["reactions"]["values"] == {"👍", "🎉"}


@of("Quote a message")
async def quote(bot: Bot, person: Person) -> None:
    question = person.say(bot.jid, "Hellö, bot")
    answer = await person.hear()
    assert answer["reply"]["id"] == question
    assert answer["reply"]["to"] == person.client.boundjid
    assert answer["reply"].get_fallback_body() == "> Hellö, bot\n"
    assert answer["reply"].strip_fallback_content() == "That has 2 words."
    person.plugin("0461").send_reply(
        bot.jid, answer["id"], "That has 2 words.", mto=bot.jid, mbody="thanks", mtype="chat"
    )
    assert (await person.hear())["body"] == f"You replied thanks to {answer['id']}."


@of("Ask by a form")
async def form(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "I am hungry")
    asked = (await person.hear())["form"]
    assert (asked["type"], asked["title"]) == ("form", "Pizza")
    fields = asked.get_fields()
    assert fields["size"]["type"] == "list-single"
    assert [one["value"] for one in fields["size"]["options"]] == ["s", "l"]
    assert fields["name"]["required"]
    filled = person.client.make_message(mto=bot.jid, mtype="chat")
    filled["form"]["type"] = "submit"
    filled["form"].add_field("size", value="l")
    filled["form"].add_field("name", value="Ann Lee")
    person.send(filled)
    assert (await person.hear())["body"] == "A pizza of size l for Ann Lee."
    person.say(bot.jid, "order s Ben")
    assert (await person.hear())["body"] == "A pizza of size s for Ben."


@of("Offer a command")
async def command(bot: Bot, person: Person) -> None:
    about = (await person.plugin("0030").get_info(bot.jid))["disco_info"]
    assert COMMANDS in about["features"]
    assert [one[:2] for one in about["identities"]] == [("client", "bot")]
    listed = await person.plugin("0050").get_commands(jid=bot.jid)
    assert listed["disco_items"]["items"] == {(bot.jid, "weather", "Weather")}
    run_command = person.plugin("0050").send_command
    begun = (await run_command(bot.jid, "weather"))["command"]
    assert begun["status"] == "executing"
    assert begun["actions"] == {"complete"}
    assert list(begun["form"].get_fields()) == ["city"]
    canceled = await run_command(bot.jid, "weather", None, "cancel", None, begun["sessionid"])
    assert canceled["command"]["status"] == "canceled"
    begun = (await run_command(bot.jid, "weather"))["command"]
    filled = begun["form"]
    filled["type"] = "submit"
    filled["values"] = {"city": "Bergen"}
    done = await run_command(bot.jid, "weather", None, "complete", filled, begun["sessionid"])
    assert done["command"]["status"] == "completed"
    assert done["command"]["notes"] == [("info", "It rains in Bergen.")]
    person.say(bot.jid, "/weather Bergen")
    assert (await person.hear())["body"] == "It rains in Bergen."


@of("Request a receipt, and give one")
async def receipt(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "Hi")
    question = await person.hear()  # which the client confirms by itself
    assert question["request_receipt"]
    assert (await person.hear())["body"] == f"{question['id']} has arrived."
    asked = person.client.make_message(mto=bot.jid, mbody="And you?", mtype="chat")
    asked["request_receipt"] = True
    id = person.send(asked)
    confirmed = await person.hear()
    assert (confirmed["receipt"], confirmed["body"]) == (id, "")
    assert (await person.hear())["body"] == "Are you there?"


@of("Have a name and an avatar")
async def avatar(bot: Bot, person: Person) -> None:
    card = (await person.plugin("0054").get_vcard(bot.jid))["vcard_temp"]
    assert (card["FN"], card["NICKNAME"]) == ("Weather Bot", ["weather"])
    assert (card["PHOTO"]["TYPE"], card["PHOTO"]["BINVAL"]) == ("image/png", PIXEL)
    person.client.send_presence_subscription(pto=bot.jid)
    await person.see(bot.jid, "subscribed")
    for _ in range(2):
        shown = await person.see(bot.jid)
        assert shown["nick"]["nick"] == "weather"
        assert shown["vcard_temp_update"]["photo"] == hashlib.sha1(PIXEL).hexdigest()
        person.client.send_presence(ptype="unavailable")
        person.client.send_presence()  # so that the server asks for the bot's


@of("Join a room, and come back")
async def join(bot: Bot, person: Person) -> None:
    rooms, robot = person.plugin("0045"), f"{bot.room}/robot"
    await person.enter(bot.room, "alice")
    rooms.invite(bot.room, bot.jid)
    await person.see(robot)
    await rooms.set_role(bot.room, "robot", "none")
    gone = await person.see(robot, "unavailable")
    assert 307 in gone["muc"]["status_codes"]
    await person.see(robot)
    await rooms.set_affiliation(bot.room, "outcast", jid=bot.jid)
    gone = await person.see(robot, "unavailable")
    assert 301 in gone["muc"]["status_codes"]
    await rooms.set_affiliation(bot.room, "none", jid=bot.jid)
    bot.enter_room()
    await person.see(robot)


@of("Know who is online")
async def online(bot: Bot, person: Person) -> None:
    person.client.send_presence_subscription(pto=bot.jid)
    await person.see(bot.jid, "subscribed")
    await person.see(bot.jid, "subscribe")  # which the client allows by itself
    person.say(bot.jid, "Who is online?")
    me = person.client.boundjid.full
    assert (await person.hear())["body"] == f"{me}: online"
    person.client.send_presence(pshow="away")
    person.say(bot.jid, "And now?")
    assert (await person.hear())["body"] == f"{me}: away"
    person.client.send_presence(ptype="unavailable")
    person.say(bot.jid, "And now?")
    assert (await person.hear())["body"] == "Nobody is online."
    person.client.send_presence()  # so that the server asks for the bot's
    await person.see(bot.jid)


@of("Notice what was not delivered")
async def failure(bot: Bot, person: Person) -> None:
    person.say(bot.jid, "hello")
    copy = await person.hear()
    assert copy["body"] == f"{person.client.boundjid.full} says: hello"
    uid = copy["id"].removesuffix("-1")
    report = (await person.hear())["body"]
    assert report == f"bob@localhost did not get {uid}-2: service-unavailable"


def test_each_task_is_played_in_each_language() -> None:
    headings = [section.heading for section in PAGE.sections if section.level == 2]
    assert [FRAME, *RECIPES, "Reference"] == headings
    assert RECIPES.keys() == SCENARIOS.keys()
    assert len(RECIPES) == 13
    assert len(PROGRAMS) == len(RECIPES) * len(LANGUAGES)  # so their names differ
    assert all(LANGUAGES.keys() <= recipe.code.keys() for recipe in RECIPES.values())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_recipe_is_short_and_has_no_xml(program: str) -> None:
    recipe, language = PROGRAMS[program]
    code = recipe.code[language]
    assert len([line for line in code.splitlines() if line.strip()]) <= MAX_LINES
    assert re.search(r"<\w|</|xmlns|\[?\"stanza\"\]?\s*(:|=>)", code) is None


@pytest.mark.prosody
@pytest.mark.parametrize("language", LANGUAGES, ids=LANGUAGES.get)
@pytest.mark.parametrize("task", RECIPES)
def test_a_recipe(stage: Stage, task: str, language: str) -> None:
    if (reason := missing(language)) is not None:
        pytest.skip(reason)
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    name = name_of(task, language)
    directory = stage.directory / name
    directory.mkdir()
    (directory / "bot.token").write_text(f"{TOKEN}\n")
    (directory / "avatar.png").write_bytes(PIXEL)
    code = RECIPES["Join a room, and come back"].code
    replaced = stage.replaced(name)
    (directory / "join.json").write_text(replace(code["json"], replaced))

    def enter_room() -> None:
        command = ["sh", "-euc", replace(code["sh"], replaced)]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)

    bot = Bot(f"robot@{name}.localhost", f"{name}@{MUC}", enter_room)
    port = stage.ports[name].getsockname()[1]

    async def talk() -> None:
        async with log_in(stage.c2s_port, f"{name}@localhost/phone", PASSWORD) as person:
            await SCENARIOS[task](bot, person)

    with run(RECIPES[task], language, directory, port, replaced):
        asyncio.run(talk())
