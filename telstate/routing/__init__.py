"""Who is told: the router that registers handlers, the dispatcher that runs them, and what the edges must offer."""
