# scheduled_deletion: an ordinary PGXS extension
#
#	make, make install, make installcheck	as with any other
#	make test				all tests, on a server of their own
#	make dist			what PGXN takes, a zip file of the last commit
#	make deb			Debian packages of it in deb/, one for each major with headers here
#	make demo				the main job, shown on a server of its own
#	make bench			how long it takes, and others take, measured likewise
#	make bench-live			what clients notice of it, measured likewise
#	make bench-memory		how much memory it needs, measured likewise

EXTENSION = scheduled_deletion
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" scheduled_deletion.control)

MODULE_big = $(EXTENSION)
OBJS = \
	src/account.o \
	src/ahead.o \
	src/audit.o \
	src/batch.o \
	src/blockers.o \
	src/brake.o \
	src/call.o \
	src/check.o \
	src/check_accounts.o \
	src/check_code.o \
	src/check_columns.o \
	src/check_holds.o \
	src/check_indexes.o \
	src/check_keys.o \
	src/check_role.o \
	src/check_triggers.o \
	src/collect.o \
	src/definition.o \
	src/describe.o \
	src/discover.o \
	src/due.o \
	src/estimate.o \
	src/execute.o \
	src/failing.o \
	src/failing_read.o \
	src/failing_write.o \
	src/failure.o \
	src/finding.o \
	src/guard.o \
	src/held.o \
	src/held_asked.o \
	src/hold.o \
	src/hook.o \
	src/index.o \
	src/key.o \
	src/key_text.o \
	src/lag.o \
	src/ledger.o \
	src/link.o \
	src/log.o \
	src/names.o \
	src/order.o \
	src/pace.o \
	src/plan.o \
	src/policy.o \
	src/preflight.o \
	src/procedure.o \
	src/progress.o \
	src/prove.o \
	src/receive.o \
	src/refusal.o \
	src/register.o \
	src/remember.o \
	src/report.o \
	src/resolve.o \
	src/result.o \
	src/rows.o \
	src/run.o \
	src/schedule.o \
	src/scheduled_deletion.o \
	src/search.o \
	src/settings.o \
	src/share.o \
	src/spare.o \
	src/spi_util.o \
	src/statement.o \
	src/statement_above.o \
	src/statement_account.o \
	src/status.o \
	src/step.o \
	src/strangers.o \
	src/suspects.o \
	src/trigger.o \
	src/turn.o \
	src/watch.o \
	src/writers.o
PGFILEDESC = "scheduled_deletion - delete accounts and their rows on schedule"
PG_CPPFLAGS = -DSCHEDULED_DELETION_VERSION='"$(EXTVERSION)"'
SHLIB_LINK = -lm

DATA = $(wildcard src/$(EXTENSION)--*.sql)

REGRESS = install policies plan living_accounts late_triggers steps remembered_tables check_keys check_tables check_role due grace_period audit_table \
	built_in_policy process batches scans dry_run commits ledger status failures failing failure_search systemic_failures starvation holds shared_rows brake key_types refusals bad_input privileges rights hidden_accounts elision names quoting
ISOLATION = two_runs cancelled new_rows late_rows new_partitions composite_keys replica lock_waits locked_accounts deadlocks moved_rows partitions changed_schema deleted_rows failing_runs disabled brake holds committed_batches pace told check_locked elision remembered
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=$(EXTENSION)
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = src/conditions.inc

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no header dependencies
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h)

# SQLSTATEs and condition names, from the list that the server is built with
src/failure.o src/failure.bc: src/conditions.inc
src/conditions.inc: $(datadir)/errcodes.txt
	awk 'NF == 4 && /^[0-9A-Z]/ { printf "\t{\"%s\", \"%s\"},\n", $$1, $$4 }' $< > $@

dist:
	git archive --format zip --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(EXTENSION)-$(EXTVERSION).zip HEAD

# src/debian is the debian/ of a source package whose upstream is the last commit, or all of
# an unpacked zip file.
DEB = scheduled-deletion
deb: export DEB_PG_SUPPORTED_VERSIONS ?= installed
deb:
	set -e; unset MAKEFLAGS; top=$$PWD; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	source=$$dir/$(DEB)-$(EXTVERSION); mkdir $$source; \
	if [ -e .git ]; then git archive HEAD; else tar -c --exclude=./deb .; fi | tar -x -C $$source; \
	tar -cz -C $$dir -f $$dir/$(DEB)_$(EXTVERSION).orig.tar.gz $(DEB)-$(EXTVERSION); \
	cp -R $$source/src/debian $$source; cd $$source; \
	pg_buildext updatecontrol; dpkg-buildpackage --unsigned-source --unsigned-changes; \
	mkdir -p $$top/deb; cp $$dir/$(DEB)_* $$dir/postgresql-* $$top/deb

demo test:
	test/$@.sh

bench:
	test/bench/speed.sh

bench-live:
	test/bench/live.sh

bench-memory:
	test/bench/memory.sh

.PHONY: dist deb demo test bench bench-live bench-memory
