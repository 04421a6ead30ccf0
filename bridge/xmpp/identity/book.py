"""Which addresses exist, and who they are."""

from bridge.config.profile import DOMAIN, EVERYBODY, Profile
from bridge.config.settings import Component
from bridge.xmpp.identity.disco import BASE_FEATURES, DiscoInfo, features_of, in_order
from bridge.xmpp.identity.vcard import nick, photo_update
from xmppstream import Element
from xmppstream.jid import bare, fold_local


class IdentityBook:
    """The identities of one component's addresses."""

    def __init__(self, component: Component) -> None:
        self._infos: dict[str, DiscoInfo] = {}
        self._component = component

    @property
    def component(self) -> Component:
        """The configuration in use."""
        return self._component

    def change(self, component: Component) -> None:
        """Use another configuration from now on."""
        self._component = component
        self._infos.clear()

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
        return self._component.profiles.get(self._key(address))

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
        return local if local in self._component.profiles else EVERYBODY

    def _make_info(self, address: str) -> DiscoInfo:
        is_host = not local_of(address)
        category, type = ("component", "generic") if is_host else ("client", "bot")
        name = self._component.name
        if not self.answers_iqs:
            return DiscoInfo(category, type, name, in_order(BASE_FEATURES))
        profile = self.profile(address)
        if profile is not None and profile.category:
            category, type = profile.category, profile.type
        extra = () if profile is None else profile.features
        features = features_of(self._component, extra, has_card=profile is not None)
        return DiscoInfo(category, type, self.name(address), features)


def local_of(address: str) -> str:
    """Return the folded local part of an address; empty if it has none."""
    return fold_local(bare(address).rpartition("@")[0])
