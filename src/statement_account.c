/*-------------------------------------------------------------------------
 *
 * statement_account.c
 *	  The statements on the account table, but for its DELETE; statement.c tells
 *	  how they are written.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/statement_account.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static void append_perhaps_due(DeletionPlan *plan, PlanStatement *statement);
static void append_not_done(DeletionPlan *plan, PlanStatement *statement);
static void append_after_cursor(DeletionPlan *plan, PlanStatement *statement,
								int due_param);
static void append_greater_key(DeletionPlan *plan, PlanStatement *statement,
							   int column);
static void append_account(DeletionPlan *plan, PlanStatement *statement);

/*
 * Those of a run:
 *
 *	pick:		SELECT t.<key>, ..., t.<due> FROM <account table> t
 *				WHERE <due> AND ($c IS NULL OR (t.<due> >= $c
 *					AND (t.<due> > $c OR <key is greater than $d, ...>)))
 *				ORDER BY t.<due>, t.<key>, ... LIMIT $1
 *	pick_sample: SELECT t.<key>, ..., t.<due> FROM <account table> t
 *				WHERE <due> ORDER BY random() LIMIT $1
 *	due:		SELECT FROM <account table> t WHERE <due>
 *	lock:		SELECT t.<key>, ..., t.<due> [, to_jsonb(t.<detail>), ...]
 *				FROM <account table> t WHERE <link> AND <due>
 *				FOR UPDATE SKIP LOCKED
 *	still_due:	SELECT t.<key>, ... FROM <account table> t
 *				WHERE <link> AND <due>
 *
 * where <due> is the condition that sd_append_due() shows, and <key> in "lock"
 * each column of every key by which rows of other tables lead to an account.
 */
void
sd_write_account_statements(DeletionPlan *plan)
{
	const char *table = sd_qualified_name(plan->account->table);
	const char *due = quote_identifier(plan->policy->due_column);
	PlanStatement *pick = &plan->pick;
	StringInfoData keys;
	ListCell   *lc;
	int			limit;
	int			cursor;

	initStringInfo(&keys);
	for (int i = 0; i < plan->key->ncolumns; i++)
		appendStringInfo(&keys, "%s, ", plan->key->columns[i].value);

	/* $c is a constant to the planner, so that no OR remains of its test */
	initStringInfo(&pick->query);
	limit = sd_add_param(pick, SD_PARAM_CALLER, INT8OID);
	appendStringInfo(&pick->query, "SELECT %st.%s FROM %s t WHERE ",
					 keys.data, due, table);
	sd_append_due(plan, pick);
	cursor = sd_add_param(pick, SD_PARAM_CALLER, plan->due_type);
	append_after_cursor(plan, pick, cursor);
	appendStringInfo(&pick->query, " ORDER BY t.%s", due);
	for (int i = 0; i < plan->key->ncolumns; i++)
		appendStringInfo(&pick->query, ", %s", plan->key->columns[i].value);
	appendStringInfo(&pick->query, " LIMIT $%d", limit);
	sd_add_statement(plan, pick);

	initStringInfo(&plan->pick_sample.query);
	limit = sd_add_param(&plan->pick_sample, SD_PARAM_CALLER, INT8OID);
	appendStringInfo(&plan->pick_sample.query, "SELECT %st.%s FROM %s t WHERE ",
					 keys.data, due, table);
	sd_append_due(plan, &plan->pick_sample);
	appendStringInfo(&plan->pick_sample.query,
					 " ORDER BY pg_catalog.random() LIMIT $%d", limit);
	sd_add_statement(plan, &plan->pick_sample);

	initStringInfo(&plan->due.query);
	appendStringInfo(&plan->due.query, "SELECT FROM %s t WHERE ", table);
	sd_append_due(plan, &plan->due);

	initStringInfo(&plan->lock.query);
	appendStringInfoString(&plan->lock.query, "SELECT ");
	sd_append_key_values(&plan->lock.query, plan->account);
	appendStringInfo(&plan->lock.query, ", t.%s", due);
	foreach(lc, plan->policy->audit_details)
		appendStringInfo(&plan->lock.query, ", pg_catalog.to_jsonb(t.%s)",
						 quote_identifier(lfirst(lc)));
	appendStringInfo(&plan->lock.query, " FROM %s t WHERE ", table);
	sd_append_goes(plan, &plan->lock, plan->account);
	appendStringInfoString(&plan->lock.query, " FOR UPDATE SKIP LOCKED");
	sd_add_statement(plan, &plan->lock);

	initStringInfo(&plan->still_due.query);
	appendStringInfoString(&plan->still_due.query, "SELECT ");
	sd_append_values(&plan->still_due, plan->self);
	appendStringInfo(&plan->still_due.query, " FROM %s t WHERE ", table);
	sd_append_goes(plan, &plan->still_due, plan->account);
	sd_add_statement(plan, &plan->still_due);
}

/*
 * The condition that an account is due, which is the definition of it: due time
 * plus grace, on the clock of the policy's time zone, is not after the moment.
 *
 *	t.<due> <= <perhaps>
 *	[AND CASE WHEN t.<due> <= <surely> THEN true
 *		WHEN t.<due> <= <perhaps> THEN <due at> <= <moment> ELSE false END]
 *	[AND t.<done> IS NULL]
 *
 * where <due at> is timezone(<zone>, t.<due> + <grace>) or, of a timestamptz,
 * timezone(<zone>, timezone(<zone>, t.<due>) + <grace>).  It is asked of the few
 * values between the bounds only, so that none is out of range; and not at all if
 * the bounds are the same, since the grace has neither months nor days.
 */
void
sd_append_due(DeletionPlan *plan, PlanStatement *statement)
{
	StringInfo	buf = &statement->query;
	const char *due = quote_identifier(plan->policy->due_column);
	Interval   *grace = plan->policy->grace;
	bool		is_zoned = plan->due_type == TIMESTAMPTZOID;

	append_perhaps_due(plan, statement);
	if (!is_zoned || grace->month != 0 || grace->day != 0)
	{
		int			perhaps = list_length(statement->params);
		int			surely = sd_add_param(statement, SD_PARAM_SURELY_DUE,
										  plan->due_type);
		int			zone = sd_add_param(statement, SD_PARAM_TIME_ZONE, TEXTOID);
		int			added = sd_add_param(statement, SD_PARAM_GRACE, INTERVALOID);
		int			moment = sd_add_param(statement, SD_PARAM_MOMENT,
										  TIMESTAMPTZOID);

		appendStringInfo(buf, " AND CASE WHEN t.%s OPERATOR(pg_catalog.<=) $%d THEN true"
						 " WHEN t.%s OPERATOR(pg_catalog.<=) $%d"
						 " THEN pg_catalog.timezone($%d, ",
						 due, surely, due, perhaps, zone);
		if (is_zoned)
			appendStringInfo(buf, "pg_catalog.timezone($%d, t.%s::%s)", zone, due,
							 sd_type_name(plan->due_type));
		else
			appendStringInfo(buf, "t.%s::%s", due, sd_type_name(plan->due_type));
		appendStringInfo(buf, " OPERATOR(pg_catalog.+) $%d)"
						 " OPERATOR(pg_catalog.<=) $%d ELSE false END", added, moment);
	}
	append_not_done(plan, statement);
}

/*
 * The accounts that may be due, and mostly are: what the planner estimates, which
 * makes a guess at the definition.
 *
 *	SELECT FROM <account table> t WHERE t.<due> <= <perhaps> [AND t.<done> IS NULL]
 */
void
sd_write_perhaps_due(DeletionPlan *plan, PlanStatement *statement)
{
	initStringInfo(&statement->query);
	appendStringInfo(&statement->query, "SELECT FROM %s t WHERE ",
					 sd_qualified_name(plan->account->table));
	append_perhaps_due(plan, statement);
	append_not_done(plan, statement);
}

static void
append_perhaps_due(DeletionPlan *plan, PlanStatement *statement)
{
	appendStringInfo(&statement->query, "t.%s OPERATOR(pg_catalog.<=) $%d",
					 quote_identifier(plan->policy->due_column),
					 sd_add_param(statement, SD_PARAM_PERHAPS_DUE, plan->due_type));
}

static void
append_not_done(DeletionPlan *plan, PlanStatement *statement)
{
	if (plan->policy->done_column != NULL)
		appendStringInfo(&statement->query, " AND t.%s IS NULL",
						 quote_identifier(plan->policy->done_column));
}

/* The condition that an account comes after the last one, if there was one */
static void
append_after_cursor(DeletionPlan *plan, PlanStatement *statement, int due_param)
{
	const char *due = quote_identifier(plan->policy->due_column);

	appendStringInfo(&statement->query,
					 " AND ($%d IS NULL OR (t.%s OPERATOR(pg_catalog.>=) $%d"
					 " AND (t.%s OPERATOR(pg_catalog.>) $%d OR ",
					 due_param, due, due_param, due, due_param);
	append_greater_key(plan, statement, 0);
	appendStringInfoString(&statement->query, ")))");
}

/* The condition that a key is greater than another, from a column on */
static void
append_greater_key(DeletionPlan *plan, PlanStatement *statement, int column)
{
	KeyColumn  *key = &plan->key->columns[column];
	int			param = sd_add_param(statement, SD_PARAM_CALLER, key->type);
	StringInfo	buf = &statement->query;

	appendStringInfoString(buf, key->value);
	sd_append_operator(buf, get_opfamily_member(key->opfamily, key->opcintype,
												key->opcintype,
												BTGreaterStrategyNumber));
	appendStringInfo(buf, "$%d", param);
	if (column == plan->key->ncolumns - 1)
		return;

	appendStringInfo(buf, " OR (%s", key->value);
	sd_append_operator(buf, get_opfamily_member(key->opfamily, key->opcintype,
												key->opcintype,
												BTEqualStrategyNumber));
	appendStringInfo(buf, "$%d AND (", param);
	append_greater_key(plan, statement, column + 1);
	appendStringInfoString(buf, "))");
}

/*
 * Find an account, which is the first parameters:
 *
 *	SELECT t.<key>, ..., t.<due>, t.<done> IS NOT NULL FROM <account table> t
 *	WHERE t.<key> = $1 [AND ...] [FOR NO KEY UPDATE]
 *
 * where <key> is each column of every key of the table's that is known.
 */
void
sd_write_find(DeletionPlan *plan, bool lock, PlanStatement *find)
{
	initStringInfo(&find->query);
	appendStringInfoString(&find->query, "SELECT ");
	sd_append_key_values(&find->query, plan->account);
	appendStringInfo(&find->query, ", t.%s, ",
					 quote_identifier(plan->policy->due_column));
	if (plan->policy->done_column != NULL)
		appendStringInfo(&find->query, "t.%s IS NOT NULL",
						 quote_identifier(plan->policy->done_column));
	else
		appendStringInfoString(&find->query, "false");
	appendStringInfo(&find->query, " FROM %s t WHERE ",
					 sd_qualified_name(plan->account->table));
	append_account(plan, find);
	if (lock)
		appendStringInfoString(&find->query, " FOR NO KEY UPDATE");
}

/*
 * Give it another time, which is the last parameter:
 *
 *	UPDATE <account table> t SET <due> = $n
 *	WHERE t.<key> = $1 [AND ...] RETURNING t.<due>
 */
void
sd_write_set_due(DeletionPlan *plan, PlanStatement *set_due)
{
	const char *due = quote_identifier(plan->policy->due_column);

	initStringInfo(&set_due->query);
	appendStringInfo(&set_due->query, "UPDATE %s t SET %s = $%d WHERE ",
					 sd_qualified_name(plan->account->table), due,
					 plan->key->ncolumns + 1);
	append_account(plan, set_due);
	sd_add_param(set_due, SD_PARAM_CALLER, plan->due_type);
	appendStringInfo(&set_due->query, " RETURNING t.%s", due);
}

/* The condition that an account is the one */
static void
append_account(DeletionPlan *plan, PlanStatement *statement)
{
	for (int i = 0; i < plan->key->ncolumns; i++)
	{
		KeyColumn  *key = &plan->key->columns[i];

		appendStringInfo(&statement->query, "%s%s", i > 0 ? " AND " : "",
						 key->value);
		sd_append_operator(&statement->query,
						   get_opfamily_member(key->opfamily, key->opcintype,
											   key->opcintype,
											   BTEqualStrategyNumber));
		appendStringInfo(&statement->query, "$%d",
						 sd_add_param(statement, SD_PARAM_CALLER, key->type));
	}
}

/*
 * How many accounts that are due have a mark set:
 *
 *	SELECT count(*) FROM <account table> t WHERE <due>
 *	AND t.<column> [IS NOT NULL]
 */
void
sd_write_marked(DeletionPlan *plan, const char *column, bool is_flag,
				PlanStatement *marked)
{
	initStringInfo(&marked->query);
	appendStringInfo(&marked->query,
					 "SELECT pg_catalog.count(*) FROM %s t WHERE ",
					 sd_qualified_name(plan->account->table));
	sd_append_due(plan, marked);
	appendStringInfo(&marked->query, " AND t.%s%s", quote_identifier(column),
					 is_flag ? "" : " IS NOT NULL");
}

/*
 * How many of the first accounts that are done have rows by a link to them:
 *
 *	SELECT count(*) FROM (SELECT t.<key>, ... FROM <account table> t
 *		WHERE t.<done> IS NOT NULL LIMIT <limit>) a (c0, ...)
 *	WHERE EXISTS (SELECT FROM <table> t WHERE t.<column> = a.c0 [AND ...])
 */
void
sd_write_leftovers(DeletionPlan *plan, PlanLink *link, int limit,
				   StringInfo query)
{
	appendStringInfoString(query, "SELECT pg_catalog.count(*) FROM (SELECT ");
	sd_append_key_values(query, plan->account);
	appendStringInfo(query, " FROM %s t WHERE t.%s IS NOT NULL LIMIT %d) a (",
					 sd_qualified_name(plan->account->table),
					 quote_identifier(plan->policy->done_column), limit);
	for (int i = 0; i < plan->account->nvalues; i++)
		appendStringInfo(query, "%sc%d", i > 0 ? ", " : "", i);
	appendStringInfo(query, ") WHERE EXISTS (SELECT FROM %s t WHERE ",
					 sd_qualified_name(link->step->table));
	for (int i = 0; i < link->ncolumns; i++)
	{
		appendStringInfo(query, "%s%s", i > 0 ? " AND " : "", link->values[i]);
		sd_append_operator(query, link->equals[i]);
		appendStringInfo(query, "a.c%d", link->key->first_value + i);
	}
	appendStringInfoChar(query, ')');
}
