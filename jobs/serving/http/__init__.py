"""HTTP interface: routes, checks of requests, and their bodies."""
