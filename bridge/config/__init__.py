"""The configuration file, checked, as frozen settings.

`loader` reads TOML, `schema` checks its shape with cattrs, `validation` reads the files and
environment variables that it names and checks dependencies between keys, `listener` does the same
for `[listen]`, `journal` for `[journal]` and `[node]`. `settings` holds the resulting values,
`value` parses single values (addresses, URLs, secrets), `token` is a token of the HTTP API,
`tracing` resolves `[tracing]`, `digest` is what nodes compare. All faults are collected before
`ConfigError` is raised, each with its key, the problem and a remedy. This package imports no other
package of the bridge.
"""
