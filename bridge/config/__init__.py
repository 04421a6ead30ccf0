"""The configuration file, checked, as frozen settings.

`loader` reads TOML, `schema` checks its shape with cattrs, `validation` reads the files and the
environment that it names and checks what depends on two keys, `listener` does the same for
`[listen]`. `settings` holds the resulting values, `value` parses single values (addresses, URLs,
secrets), `token` is a token of the HTTP API. All faults are collected before `ConfigError` is
raised, each with its key and a remedy. This package imports nothing of the bridge.
"""
