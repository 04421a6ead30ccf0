"""`python -m tests.capture prosody|ejabberd [SCENE…]`: takes the captures of fixtures/ again."""

from __future__ import annotations

from tests.capture.command import main

main()
