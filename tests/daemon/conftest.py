"""What the tests of daemons share."""

from tests.daemon._daemons import home as home
