"""How a server treats components: a component that breaks what it can (`probe`)."""
