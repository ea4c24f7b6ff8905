#!/usr/bin/env bash
# Show the main job on a made-up database of 300 accounts, in a private copy of
# PostgreSQL (see private_server.sh) that is gone when the demo ends.
#
# usage: [PG_CONFIG=/path/to/pg_config] test/demo.sh

# shellcheck source-path=SCRIPTDIR source=private_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/private_server.sh"

prepare
run_job build_extension
start_server demo
as_owner createdb demo
run_job as_owner psql -X -q -v ON_ERROR_STOP=1 -d demo -f test/demo.sql
