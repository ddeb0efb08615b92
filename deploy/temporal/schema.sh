#!/bin/sh
# Makes or updates Temporal's two databases on PostgreSQL; safe to run on every start.
set -eu
for name in temporal temporal_visibility; do
  part=temporal
  [ "$name" = temporal ] || part=visibility
  temporal-sql-tool --plugin "$SQL_PLUGIN" --ep "$SQL_HOST" -p "$SQL_PORT" -u "$SQL_USER" --db "$name" create
  temporal-sql-tool --plugin "$SQL_PLUGIN" --ep "$SQL_HOST" -p "$SQL_PORT" -u "$SQL_USER" --db "$name" setup-schema -v 0.0
  temporal-sql-tool --plugin "$SQL_PLUGIN" --ep "$SQL_HOST" -p "$SQL_PORT" -u "$SQL_USER" --db "$name" \
    update-schema -d "/etc/temporal/schema/postgresql/v12/$part/versioned"
done
