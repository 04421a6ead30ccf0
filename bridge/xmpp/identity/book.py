"""Which addresses exist, and who they are.

The profile of an address is the one that was set while the bridge runs, which the small state
keeps; else its own in the configuration, else that of everybody there.
"""

from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from bridge.config.profile import (
    DOMAIN,
    EVERYBODY,
    Profile,
    parse_avatar_text,
    profile_of,
)
from bridge.config.schema import structure_profile
from bridge.config.settings import Component, ConfigFault
from bridge.config.value import BadValue
from bridge.xmpp.identity.disco import BASE_FEATURES, DiscoInfo, features_of
from bridge.xmpp.identity.vcard import nick, photo_update
from bridge.xmpp.state import MemoryState, StateStore, kept
from xmppstream import Element
from xmppstream.jid import bare, fold_local

KIND: Final = "profile"


class BadProfile(ValueError):
    """A profile is not valid; `faults` say why, in the words of the configuration's."""

    def __init__(self, faults: list[ConfigFault]) -> None:
        super().__init__(" ".join(str(fault) for fault in faults))
        self.faults = faults


class IdentityBook:
    """The identities of one component's addresses. Before `load`, only the configuration counts."""

    def __init__(self, component: Component, state: StateStore | None = None) -> None:
        """`state` keeps the profiles that are set while the bridge runs."""
        self.is_loaded = False
        self._infos: dict[str, DiscoInfo] = {}
        self._component = component
        self._state = MemoryState() if state is None else state
        self._set: dict[str, Profile] = {}
        self._offered: tuple[str, ...] = ()

    def load(self, log: FilteringBoundLogger) -> None:
        """Read the profiles that were set before. The state must be loaded."""
        self.is_loaded = True
        for local, value in self._state.entries(KIND).items():
            try:
                self._set[local] = read_profile(msgspec.json.decode(value))
            except ValueError as error:  # another version has written it
                log.warning("a profile cannot be read", local=local, why=str(error))
        self._infos.clear()

    @property
    def component(self) -> Component:
        """The configuration in use."""
        return self._component

    def change(self, component: Component) -> None:
        """Use another configuration from now on."""
        self._component = component
        self._infos.clear()

    def offer(self, features: tuple[str, ...]) -> bool:
        """Add features to those of every address, instead of others; return whether they differ."""
        if features == self._offered:
            return False
        self._offered = features
        self._infos.clear()
        return True

    @property
    def answers_iqs(self) -> bool:
        """Whether the bridge, and not the endpoint, says who an address is."""
        return not self._component.posts_iqs

    def address_of(self, local: str) -> str:
        """Return the address of a local part, with the domain spelt as configured (S28)."""
        domain = self._component.domain
        return f"{local}@{domain}" if local else domain

    def exists(self, address: str) -> bool:
        """Return whether an address of the component exists; the domain itself does."""
        known, local = self._component.local_parts, local_of(address)
        return known is None or not local or local in known

    def profile(self, address: str) -> Profile | None:
        """Return the profile of an address, or None."""
        key = self._key(address)
        found = self._set.get(key)
        return self._component.profiles.get(key) if found is None else found

    def set_profile(self, local: str, profile: Profile | None) -> None:
        """Set the profile of a folded local part; None restores the one of the configuration.

        Raises:
            StateTooLarge: if the profile is too large to be kept; nothing was changed.
        """
        if profile is None:
            self._state.delete(KIND, local)
            self._set.pop(local, None)
        else:
            self._state.put(KIND, local, msgspec.json.encode(profile.to_json()))
            self._set[local] = profile
        self._infos.pop(local, None)

    async def kept(self) -> None:
        """Wait until all changes up to now are kept; see `StateStore.when_kept`."""
        await kept(self._state)

    def name(self, address: str) -> str:
        """Return the name that service discovery shows for an address."""
        profile = self.profile(address) if self.answers_iqs else None
        return (profile and profile.name) or self._component.name

    def info(self, address: str) -> DiscoInfo:
        """Return what disco#info says of an address."""
        key = self._key(address)
        found = self._infos.get(key)
        if found is None:
            found = self._infos[key] = self._make_info(address)
        return found

    def announced(self, address: str) -> tuple[Element, ...]:
        """Return what an available presence of an address says of it."""
        profile = self.profile(address)
        children: tuple[Element, ...] = ()
        if self.answers_iqs:
            children = (self.info(address).caps(),)
        if profile is not None and profile.name:
            children = (*children, nick(profile.name))
        if profile is not None and self.answers_iqs:
            children = (*children, photo_update(profile))
        return children

    def _key(self, address: str) -> str:
        """Return the name of the profile of an address, whether there is one or not."""
        local = local_of(address)
        if not local:
            return DOMAIN
        is_own = local in self._set or local in self._component.profiles
        return local if is_own else EVERYBODY

    def _make_info(self, address: str) -> DiscoInfo:
        is_host = not local_of(address)
        category, type = ("component", "generic") if is_host else ("client", "bot")
        name = self._component.name
        if not self.answers_iqs:
            return DiscoInfo(category, type, name, tuple(sorted(BASE_FEATURES)))
        profile = self.profile(address)
        if profile is not None and profile.category:
            category, type = profile.category, profile.type
        extra = () if profile is None else profile.features
        offered = (*extra, *self._offered)
        features = features_of(self._component, offered, has_card=profile is not None)
        return DiscoInfo(category, type, self.name(address), features)


def read_profile(value: object) -> Profile:
    """Return the profile of an object of the HTTP API; what is null or empty is left out.

    Raises:
        BadProfile: if it is not valid.
    """
    faults: list[ConfigFault] = []

    def fault(key: str, error: BadValue) -> None:
        faults.append(ConfigFault(key, error.problem, error.remedy))

    if not isinstance(value, dict):
        raise BadProfile([ConfigFault("", "a profile is an object", 'Send {"name": …}')])
    given = {key: one for key, one in value.items() if one is not None and one != ""}
    table = structure_profile(given, faults)
    if table is None:
        raise BadProfile(faults)
    profile = profile_of(table, parse_avatar_text, fault)
    if faults:
        raise BadProfile(faults)
    return profile


def local_of(address: str) -> str:
    """Return the folded local part of an address; empty if it has none."""
    return fold_local(bare(address).rpartition("@")[0])
