"""The whole configuration: pydantic models at the edge, and the Airbyte spec generated from them.

The models are the one definition. `spec` turns them into the form that the Airbyte UI draws, `reading` turns
a saved configuration into them and words every complaint from that same spec, so the three cannot drift
apart. Names, nesting and enum values are those of Airbyte's `source-postgres`; what only TimescaleDB needs
lives in the object `timescaledb`. Nothing here touches a socket, a clock or a file.
"""

from source_timescaledb.config.model import Configuration
from source_timescaledb.config.reading import read_configuration
from source_timescaledb.config.spec import connector_specification

__all__ = ["Configuration", "connector_specification", "read_configuration"]
