"""A later version of Bucketpost, made of this one: the same code, three revisions of the schema further.

Its revisions do what real ones do to tables that replicas work on: a column on each of the busiest, and an index that
is built beside their work.
"""

import shutil
from pathlib import Path
from typing import Final

from app.store.schema import REVISION
from tests.bed.process import REPOSITORY

NEXT_REVISION: Final = "9002"
_REVISIONS: Final = {
    "9000_note": f'''"""A column on the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{REVISION}"


def upgrade() -> None:
    op.add_column("delivery", sa.Column("note", sa.Text()))


def downgrade() -> None:
    op.drop_column("delivery", "note")
''',
    "9001_weight": '''"""A column on the lanes that has a value from the start."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "9000"


def upgrade() -> None:
    op.add_column("lane", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("lane", "weight")
''',
    "9002_index": f'''"""An index on the outbox, built beside the work; what a broken try left is taken out first."""

from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "9001"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_delivery_event_id")
        op.create_index("ix_delivery_event_id", "delivery", ["event_id"], postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_delivery_event_id", postgresql_concurrently=True)
''',
}


def make_next_version(directory: Path) -> dict[str, str]:
    """Put it into a directory, as a wheel installs it; gives the environment that runs it."""
    package = directory / "app"
    shutil.copytree(REPOSITORY / "app", package, ignore=shutil.ignore_patterns("__pycache__"))
    migrations = package / "migrations"
    if not migrations.exists():
        shutil.copytree(REPOSITORY / "migrations", migrations, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in _REVISIONS.items():
        (migrations / "versions" / f"{name}.py").write_text(text)
    schema = package / "store" / "schema.py"
    said = f'REVISION: Final = "{REVISION}"'
    assert said in schema.read_text()
    schema.write_text(schema.read_text().replace(said, f'REVISION: Final = "{NEXT_REVISION}"'))
    return {"PYTHONPATH": str(directory)}
