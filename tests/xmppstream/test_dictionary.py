"""Names are counted once, and known again as long as there is room."""

from xmppstream.dictionary import Dictionary


def test_a_name_is_known_and_counted_once() -> None:
    names = Dictionary(150)
    for _ in range(5):
        assert names.add(["a"], 10)
    assert names.known(10) == {"a"}
    assert not names.full
    names.add(["b"], 10)
    assert names.full


def test_each_limit_has_its_own_names() -> None:
    names = Dictionary()
    assert names.add(["long name"], 10)
    assert not names.add(["long name"], 5)
    assert (names.known(10), names.known(5)) == ({"long name"}, set())


def test_the_limit_is_one_of_bytes() -> None:
    assert Dictionary().add(["ää"], 4)
    assert not Dictionary().add(["ää"], 3)


def test_without_a_budget_it_is_never_full_and_knows_a_bounded_number() -> None:
    names = Dictionary()
    names.add(map(str, range(100_000)), 10)
    assert not names.full
    assert 15_000 < len(names.known(10)) < 21_000
