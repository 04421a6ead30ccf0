"""`[journal]` and `[node]`: where the journal is, and this process's place in a cluster."""

from pathlib import Path
from typing import Any, Final

import pytest

from bridge.config.loader import from_table, load, load_journal, load_without_secrets
from bridge.config.settings import ConfigError, JournalSettings, NodeSettings, Settings
from bridge.config.value import BadValue, DatabaseUrl, parse_database_url

URL: Final = "postgresql://bridge:hunter2@db.example.com/bridge"
SHOWN: Final = "postgresql://bridge@db.example.com/bridge"
TOP: Final = """\
[component."bot.example.com"]
component_secret = "s3cret"
component_post_url = "https://example.com/api"
"""


def settings_of(directory: Path = Path("/nowhere"), **tables: Any) -> Settings:
    component = {"component_secret": "s", "component_post_url": "http://127.0.0.1/"}
    table = {"component": {"bot.example.com": component}, **tables}
    return from_table(table, "test", directory=directory)


def faults_of(directory: Path = Path("/nowhere"), **tables: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(directory, **tables)
    return [str(fault) for fault in caught.value.faults]


def test_without_a_url_the_journal_is_a_file() -> None:
    settings = settings_of()
    assert settings.journal == JournalSettings(durability="process", url=None)
    assert settings.node == NodeSettings(cluster="xmpp_bridge", label=None, spread=False)


def test_with_a_url_the_journal_outlives_the_machine() -> None:
    settings = settings_of(journal={"url": URL, "max_stanzas": 5})
    assert settings.journal.durability == "power"
    assert settings.journal.url == DatabaseUrl(URL, SHOWN)
    assert settings.journal.max_stanzas == 5


def test_a_url_may_have_less_durability() -> None:
    journal = {"url": URL, "durability": "process"}
    assert settings_of(journal=journal).journal.durability == "process"


def test_a_url_without_a_journal_is_a_contradiction() -> None:
    assert faults_of(journal={"url": URL, "durability": "off"}) == [
        "journal.durability: without a journal, the URL of its database has no effect. Use"
        ' "power" or "process", or remove url.'
    ]


def test_the_url_may_be_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text(f"{URL}\n")
    path.chmod(0o644)
    settings = settings_of(tmp_path, journal={"url_file": "url"})
    assert settings.journal.url == DatabaseUrl(URL, SHOWN)
    assert settings.journal.durability == "power"
    assert [str(path) in warning for warning in settings.warnings] == [True]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "journal.url_file: {path} cannot be read (No such file or directory)"),
        ("", "journal.url_file: {path} is empty"),
        ("hunter2", "journal.url_file: the URL must begin with postgresql://"),
    ],
)
def test_a_bad_file(tmp_path: Path, content: str | None, problem: str) -> None:
    path = tmp_path / "url"
    if content is not None:
        path.write_text(content)
    (fault,) = faults_of(tmp_path, journal={"url_file": "url"})
    assert fault.startswith(problem.format(path=path))
    assert "hunter2" not in fault


def test_a_url_and_a_file_with_one() -> None:
    assert faults_of(journal={"url": URL, "url_file": "url"}) == [
        "journal.url: url and url_file are both set. Keep one of the two."
    ]


def test_a_url_in_the_file_that_everyone_reads_is_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    (tmp_path / "secret").write_text("s")
    (tmp_path / "secret").chmod(0o600)
    component = TOP.replace('component_secret = "s3cret"', 'component_secret_file = "secret"')
    path.write_text(f'{component}[journal]\nurl = "{URL}"')
    path.chmod(0o644)
    (warning,) = load(path).warnings
    assert warning.startswith(f"{path}: everyone on this machine can read the configuration file")


def test_settings_do_not_show_the_password() -> None:
    settings = settings_of(journal={"url": URL})
    assert "hunter2" not in repr(settings)
    assert str(settings.journal.url) == SHOWN


@pytest.mark.parametrize("key", ["url", "url_file"])
def test_without_secrets_no_file_is_read(tmp_path: Path, key: str) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(f'{TOP}[journal]\n{key} = "none"\nmax_stanzas = 5\n[node]\nlabel = "a"')
    settings = load_without_secrets(path)
    assert (settings.journal.url, settings.journal.max_stanzas) == (None, 5)
    assert settings.warnings == ()


@pytest.mark.parametrize("key", ["url", "url_file"])
@pytest.mark.parametrize("is_installed", [False, True])
def test_a_url_needs_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_installed: bool, key: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if is_installed else None)
    (tmp_path / "file").write_text(URL)
    (tmp_path / "file").chmod(0o600)
    table = {key: URL if key == "url" else "file"}
    if is_installed:
        assert settings_of(tmp_path, journal=table).journal.url is not None
    else:
        assert faults_of(tmp_path, journal=table) == [
            f"journal.{key}: PostgreSQL needs the package psycopg, which is not installed. Run:"
            " pip install 'xmpp-bridge[postgres]'."
        ]


def test_the_journal_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[component."bot.example.com"]\ncomponent_secret_file = "/run/nobody/may/read"\n'
        '[journal]\nurl_file = "url"\n[node]\ncluster = "a"'
    )
    (tmp_path / "url").write_text(URL)
    journal, node = load_journal(path)
    assert journal == JournalSettings(durability="power", url=DatabaseUrl(URL, SHOWN))
    assert node == NodeSettings(cluster="a")


def test_the_journal_is_read_alone_with_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "bridge.toml"
    path.write_text('[journal]\nurl = "x"\nurls = 1\n[node]\ncluster = "A"')
    with pytest.raises(ConfigError) as caught:
        load_journal(path)
    assert [fault.key for fault in caught.value.faults] == [
        *("journal.urls", "journal.url", "node.cluster")
    ]


URLS: Final = [
    ("postgresql://", "postgresql:///"),
    ("postgres://h", "postgresql://h/"),
    ("postgresql:///bridge", "postgresql:///bridge"),
    ("postgresql://h:5433/b", "postgresql://h:5433/b"),
    ("postgresql://[::1]:5433/b", "postgresql://[::1]:5433/b"),
    ("postgresql://u:hunter2@h/b", "postgresql://u@h/b"),
    ("postgresql://u:hunter2%40@a:1,b:2/b", "postgresql://u@a:1,b:2/b"),
    ("postgresql://:hunter2@h/b", "postgresql://h/b"),
    ("postgresql://u@%2Frun%2Fpostgresql/b", "postgresql://u@%2Frun%2Fpostgresql/b"),
    ("postgresql://a,b/c?target_session_attrs=read-write", "postgresql://a,b/c"),
    ("postgresql://h/b?password=hunter2&user=u", "postgresql://h/b"),
    ("postgresql:///?service=bridge", "postgresql:///"),
]


@pytest.mark.parametrize(("text", "shown"), URLS)
def test_a_url_as_libpq_reads_it(text: str, shown: str) -> None:
    url = parse_database_url(text)
    assert url.value == text
    assert str(url) == shown
    assert "hunter2" not in repr(url)


BAD_URLS: Final = [
    ("", "must begin with postgresql://"),
    ("host=h password=hunter2", "white space"),
    ("host=h", "must begin with postgresql://"),
    ("mysql://u:hunter2@h/b", "must begin with postgresql://"),
    ("postgresql:u:hunter2@h", "must begin with postgresql://"),
    ("postgresql://u:hunter2@h:0/b", "no valid host or port"),
    ("postgresql://u:hunter2@h:99999/b", "no valid host or port"),
    ("postgresql://u:hunter2@h:port/b", "no valid host or port"),
    ("postgresql://u:hunter@2@h/b", "no valid host or port"),
    ("postgresql://u:hunter2/x@h/b", "no valid host or port"),
    ("postgresql://u:1/hunter2@h/b", "no valid database or parameters"),
    ("postgresql://u:1?hunter2@h/b", "no valid database or parameters"),
    ("postgresql://h/b?sslmode", "no valid database or parameters"),
    ("postgresql://h/b\n", "white space"),
    ("postgresql://u:hunter%@h/b", "has a % without two hexadecimal digits"),
    ("postgresql://u:hunter%zz@h/b", "has a % without two hexadecimal digits"),
    ("postgresql://u:hunter%00@h/b", "has a % without two hexadecimal digits"),
    (f"postgresql://h/{'b' * 8_000}", "longer than 8000"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_URLS)
def test_a_url_that_is_none(text: str, problem: str) -> None:
    with pytest.raises(BadValue, match=problem) as caught:
        parse_database_url(text)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("cluster", ["a", "_", "xmpp_bridge_2", "a" * 41])
def test_the_name_of_a_cluster(cluster: str) -> None:
    settings = settings_of(journal={"url": URL}, node={"cluster": cluster})
    assert settings.node.cluster == cluster


BAD_CLUSTERS: Final = [
    ("", "is not a valid name"),
    ("A", "is not a valid name"),
    ("1a", "is not a valid name"),
    ("a-b", "is not a valid name"),
    ('a"; DROP TABLE x; --', "is not a valid name"),
    ("ä", "is not a valid name"),
    ("a\n", "is not a valid name"),
    ("a" * 42, "is not a valid name"),
    ("pg_bridge", "is a name that PostgreSQL keeps for itself"),
    ("information_schema", "is a name that PostgreSQL keeps for itself"),
]


@pytest.mark.parametrize(("cluster", "problem"), BAD_CLUSTERS)
def test_a_name_that_is_no_schema(cluster: str, problem: str) -> None:
    (fault,) = faults_of(journal={"url": URL}, node={"cluster": cluster})
    assert fault.startswith(f"node.cluster: {cluster!r} {problem}")


def test_the_label_of_a_node() -> None:
    settings = settings_of(journal={"url": URL}, node={"label": "Bridge-1.example.com"})
    assert settings.node.label == "Bridge-1.example.com"


def test_the_work_is_spread_on_demand() -> None:
    tables = [settings_of(journal={"url": URL}, node={"spread": on}) for on in (True, False)]
    assert [one.node.spread for one in tables] == [True, False]
    assert settings_of().node.spread is False


@pytest.mark.parametrize("label", ["", "a b", "-a", "a.", "a" * 64, "ä", "a\n"])
def test_a_label_that_is_none(label: str) -> None:
    (fault,) = faults_of(journal={"url": URL}, node={"label": label})
    assert fault == (
        f"node.label: {label!r} is not a valid label. Use up to 63 letters, digits, dots and"
        " hyphens, such as the host's name."
    )


def test_a_node_needs_a_database_that_others_can_share() -> None:
    assert settings_of(node={"label": "a"}).warnings == (
        "[node] has no effect without url or url_file in [journal]",
    )
    assert settings_of(node={"label": "a"}, journal={"url": URL}).warnings == ()
