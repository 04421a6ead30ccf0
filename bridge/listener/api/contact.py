"""`GET /v1/contacts` lists contacts; `/v1/profile/{local}` reads and changes who an address is."""

from collections.abc import Callable, Mapping

from attrs import asdict, frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.listener.api.handler import RETRY_AFTER_S, SubmissionHandler, json_response
from bridge.listener.api.request import media_type
from bridge.listener.api.stanza import JSON, decoded
from bridge.listener.auth import Grant
from bridge.listener.problem import Problem
from bridge.xmpp.announcer import Announcer
from bridge.xmpp.identity.book import BadProfile, IdentityBook, local_of, read_profile
from bridge.xmpp.state import StateTooLarge
from xmppstream import InvalidJid, Jid, split
from xmppstream.jid import same_domain

Announcers = Callable[[], Mapping[str, Announcer]]
"""Returns the announcers of all configured components, by domain."""


@frozen
class ContactRoutes:
    """The routes of `/v1/contacts` and `/v1/profile`."""

    handler: SubmissionHandler
    announcers: Announcers

    @property
    def routes(self) -> list[Route]:
        profile = "/v1/profile/{local:path}"
        return [
            Route("/v1/contacts", self.contacts, methods=["GET"]),
            Route(profile, self.profile, methods=["GET"]),
            Route(profile, self.put_profile, methods=["PUT"]),
            Route(profile, self.delete_profile, methods=["DELETE"]),
        ]

    async def contacts(self, request: Request) -> Response:
        """List the contacts of all addresses that the token may speak as."""
        async with self.handler.authorized(request, "query") as grant:
            token = grant.token
            found = []
            for domain, announcer in sorted(self.announcers().items()):
                if domain in token.components:
                    _check_loaded(announcer, domain)
                    views = announcer.contacts.views()
                    found += [one for one in views if token.speaks_as(split(one.address))]
            return json_response({"contacts": [asdict(one) for one in found]})

    async def profile(self, request: Request) -> Response:
        """Return the profile of an address, in the form that PUT takes."""
        async with self.handler.authorized(request, "query") as grant:
            announcer, address = self._find(request, grant)
            profile = announcer.contacts.book.profile(address)
            if profile is None:
                raise Problem(404, detail=f"{address} has no profile.")
            return json_response(profile.to_json())

    async def put_profile(self, request: Request) -> Response:
        """Set the profile of an address."""
        async with self.handler.authorized(request, "send") as grant:
            media_type(request, JSON)
            body = await self.handler.body(request, grant)
            announcer, address = self._find(request, grant)
            book = announcer.contacts.book
            _check_answers(book)
            try:
                profile = read_profile(decoded(body))
                announcer.set_profile(local_of(address), profile)
            except (BadProfile, StateTooLarge) as error:
                raise Problem(422, detail=str(error)) from None
            await book.kept()
            warning = "" if profile.avatar is None else profile.avatar.warning
            warnings = [f"avatar: {warning}"] if warning else []
            return json_response({"address": address, "warnings": warnings})

    async def delete_profile(self, request: Request) -> Response:
        """Forget a profile that was set; the one of the configuration is shown again."""
        async with self.handler.authorized(request, "send") as grant:
            announcer, address = self._find(request, grant)
            announcer.set_profile(local_of(address), None)
            await announcer.contacts.book.kept()
            return Response(status_code=204)

    def _find(self, request: Request, grant: Grant) -> tuple[Announcer, str]:
        """Return the announcer and the bare address that the path names.

        Raises:
            Problem: 404 if there is no such component or address; 422 if it is not an address, or
                not a whole one; 403 if the token may not speak as it; 503 if it does not run yet.
        """
        jid = _address_of(request.path_params["local"], grant)
        found = (
            (domain, one)
            for domain, one in self.announcers().items()
            if same_domain(domain, jid.domain)
        )
        domain, announcer = next(found, (None, None))
        if domain is None or announcer is None:
            raise Problem(404, detail=f"{jid.domain[:60]!r} is not a component here.")
        if not grant.token.speaks_as(jid):
            raise Problem(403, detail="This token may not speak as that address.")
        _check_loaded(announcer, domain)
        book = announcer.contacts.book
        address = book.address_of(local_of(jid.bare))
        if not book.exists(address):
            raise Problem(404, detail=f"{jid.local!r} is not among local_parts.")
        return announcer, address


def _address_of(text: str, grant: Grant) -> Jid:
    """Return the address of a path: a whole one, a domain, or a local part of the only component.

    Raises:
        Problem: 422 if it is none of these.
    """
    components = grant.token.components
    is_domain = any(same_domain(text, domain) for domain in components)
    if not is_domain and "@" not in text:
        if len(components) != 1:
            detail = "This token is for several components: write local@component in the path."
            raise Problem(422, detail=detail)
        (domain,) = components
        text = f"{text}@{domain}"
    try:
        jid = split(text)
    except InvalidJid as error:
        raise Problem(422, detail=f"The path is not a valid address: {error}.") from None
    if jid.resource or jid.local == "*":
        raise Problem(422, detail="A profile belongs to an address without a resource.")
    return jid


def _check_loaded(announcer: Announcer, domain: str) -> None:
    if not announcer.contacts.book.is_loaded:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        raise Problem(503, detail=f"{domain} has not started yet.", headers=headers)


def _check_answers(book: IdentityBook) -> None:
    if not book.answers_iqs:
        detail = (
            "component_post_stanzas has iq, so your service says who its addresses are:"
            " a profile would not be shown."
        )
        raise Problem(409, detail=detail)
