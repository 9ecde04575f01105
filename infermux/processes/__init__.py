"""Operating-system processes that serve models: started, watched, started again, and ended without a trace."""

from .spec import Spec
from .supervise import ProcessUnavailable, ProviderProcess, State

__all__ = ["ProcessUnavailable", "ProviderProcess", "Spec", "State"]
