"""Tests of the router and the dispatcher, on asyncio and trio."""
