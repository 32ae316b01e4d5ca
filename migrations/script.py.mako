"""${message}.

Replicas of the version before work on while this is applied, and after it: it adds, with a default where there must be
a value. At most one table that is in use in each revision: a lock is waited for once for each. An index on such a table
is built in `op.get_context().autocommit_block()` with postgresql_concurrently=True, alone in its revision, after a
DROP INDEX CONCURRENTLY IF EXISTS: a try may break and is then repeated.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}


def upgrade() -> None:
    """Apply."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Take back."""
    ${downgrades if downgrades else "pass"}
