/*-------------------------------------------------------------------------
 *
 * check.c
 *	  What check_deletion_policy() does: go through a policy as a run would, and
 *	  say all that is wrong with it instead of the first thing.
 *
 * The plan is made in parts, each in a subtransaction of its own: one that
 * cannot be made is a finding, and the next is tried.  Then the plan is looked
 * at, table by table; of the users' rows only those questions are asked which
 * the planner expects to be cheap.
 *
 * Tables are locked in ACCESS SHARE mode until the transaction ends.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/check.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "check.h"

#define NFINDING_COLUMNS	8

/* A part of a plan that is being made */
typedef struct PlanPart
{
	Check	   *check;
	DeletionPlan *plan;
	void		(*make) (DeletionPlan *plan);	/* NULL: begin it */
} PlanPart;

static void leave_out_lost_tables(Check *check);
static void leave_out_lost_steps(Check *check);
static void add_lost_step(Check *check, DeletionStep *definition, char *object,
						  char *message, char *hint);
static bool is_table(Oid table);
static void make_plan(Check *check);
static DeletionPlan *make_followed_plan(Check *check);
static bool make_part(Check *check, DeletionPlan **plan,
					  void (*make) (DeletionPlan *plan), const char *code);
static ErrorData *try_part(Check *check, DeletionPlan **plan,
						   void (*make) (DeletionPlan *plan));
static bool part_body(void *arg);
static void add_error(Check *check, const char *code, ErrorData *error);
static int	compare_findings(const ListCell *a, const ListCell *b);

/*
 * All that is to be said of a policy whose job runs as that role: Finding *, the
 * grave ones first.
 */
List *
sd_check_policy(DeletionPolicy *policy, Oid role)
{
	Check		check = {0};

	check.role = role;
	check.policy = policy;

	leave_out_lost_tables(&check);
	make_plan(&check);
	if (check.plan != NULL)
	{
		sd_check_keys(&check);
		sd_check_columns(&check);
		sd_check_indexes(&check);
		sd_check_triggers(&check);
		sd_check_role(&check);
		sd_check_holds(&check);
		sd_check_accounts(&check);
	}
	list_sort(check.findings, compare_findings);
	return check.findings;
}

/* Add findings to a result, but for those that are mended with earlier ones */
void
sd_put_findings(List *findings, List *earlier, ReturnSetInfo *result)
{
	static const char *const severities[] = {
		[SD_ERROR] = "error",
		[SD_WARNING] = "warning",
		[SD_INFO] = "info"
	};
	ListCell   *lc;

	foreach(lc, findings)
	{
		Finding    *finding = lfirst(lc);
		const char *texts[NFINDING_COLUMNS] = {
			finding->policy, severities[finding->severity], finding->code,
			finding->object, finding->message, finding->detail,
			finding->hint, finding->remedy
		};
		Datum		values[NFINDING_COLUMNS] = {0};
		bool		nulls[NFINDING_COLUMNS];

		if (finding->remedy != NULL && sd_has_remedy(earlier, finding->remedy))
			continue;
		for (int i = 0; i < NFINDING_COLUMNS; i++)
		{
			nulls[i] = texts[i] == NULL;
			if (!nulls[i])
				values[i] = CStringGetTextDatum(texts[i]);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* How many of them are that grave */
int
sd_count_findings(List *findings, Severity severity)
{
	int			n = 0;
	ListCell   *lc;

	foreach(lc, findings)
	{
		if (((Finding *) lfirst(lc))->severity == severity)
			n++;
	}
	return n;
}

/* Leave out the steps whose table is gone: a run stops at the first of them */
static void
leave_out_lost_tables(Check *check)
{
	ListCell   *lc;

	foreach(lc, check->policy->steps)
	{
		DeletionStep *definition = lfirst(lc);

		if (get_rel_name(definition->table) != NULL)
			continue;
		check->policy->steps = foreach_delete_current(check->policy->steps, lc);
		if (get_rel_name(definition->number) == NULL)
			add_lost_step(check, definition, definition->table_name,
						  psprintf("step table \"%s\" does not exist any more",
								   definition->table_name),
						  "If the table was created anew, add the step again afterwards.");
		else
			add_lost_step(check, definition, definition->table_name,
						  psprintf("step table \"%s\" does not exist any more, and its OID is that of \"%s\" now",
								   definition->table_name,
								   sd_table_name(definition->number)),
						  "If that is the same table under another name, or it was created anew, add the step again afterwards.");
	}
}

/* And those that hang on a table of which nothing is deleted */
static void
leave_out_lost_steps(Check *check)
{
	ListCell   *lc;

	foreach(lc, check->policy->steps)
	{
		DeletionStep *definition = lfirst(lc);

		if (definition->is_linked)
			continue;
		check->policy->steps = foreach_delete_current(check->policy->steps, lc);
		if (get_rel_name(definition->via) == NULL)
			add_lost_step(check, definition, sd_sql_name(definition->table),
						  psprintf("step table \"%s\" hangs on table \"%s\", which does not exist any more",
								   sd_table_name(definition->table),
								   definition->via_name),
						  "Remove the step, and add it again if it leads to a table that is there.");
		else
			add_lost_step(check, definition, sd_sql_name(definition->table),
						  psprintf("step table \"%s\" hangs on table \"%s\", of which nothing is deleted",
								   sd_table_name(definition->table),
								   sd_table_name(definition->via)),
						  "Remove the step, and add it again after one for that table.");
	}
}

/* A finding about a step; one for all on the same table, of that name */
static void
add_lost_step(Check *check, DeletionStep *definition, char *object,
			  char *message, char *hint)
{
	char	   *remedy = psprintf("%s, %u)",
								  sd_own_call(check->policy, "remove_deletion_step"),
								  definition->number);
	Finding    *finding;
	ListCell   *lc;

	foreach(lc, check->findings)
	{
		finding = lfirst(lc);
		if (finding->remedy != NULL && strcmp(finding->remedy, remedy) == 0 &&
			strcmp(finding->object, object) == 0)
			return;
	}
	finding = sd_add_finding(check, SD_ERROR, "lost_step", object, message);
	finding->hint = hint;
	finding->remedy = remedy;
}

/* Is it there, and an ordinary or partitioned table? */
static bool
is_table(Oid table)
{
	char		relkind = get_rel_relkind(table);

	return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE;
}

/* Make the plan as far as it can be made */
static void
make_plan(Check *check)
{
	DeletionPlan *plan = NULL;

	if (!make_part(check, &plan, NULL, "account_table"))
		return;
	if (!make_part(check, &plan, sd_resolve_audit_table, "audit_table") &&
		!is_table(check->policy->audit_table))
		check->policy->audit_table = InvalidOid;
	if (!make_part(check, &plan, sd_discover, "step"))
		return;
	(void) make_part(check, &plan, sd_find_hold_links, "hold");
	leave_out_lost_steps(check);
	(void) make_part(check, &plan, sd_refuse_audit_cascades, "audit_table");
	(void) make_part(check, &plan, sd_refuse_steps, "step");
	(void) make_part(check, &plan, sd_refuse_detaching, "detaching_partition");
	if (check->findings == NIL &&
		make_part(check, &plan, sd_order_steps, "step"))
		(void) make_part(check, &plan, sd_write_statements, "step");
	check->plan = plan;
	check->followed = make_followed_plan(check);
}

/*
 * The plan as it would be if all that stops accounts were followed, so that what
 * comes behind is found, too; or, if that cannot be made, the one that is there.
 */
static DeletionPlan *
make_followed_plan(Check *check)
{
	DeletionPolicy *policy = palloc(sizeof(DeletionPolicy));
	Check		followed = *check;
	DeletionPlan *plan = NULL;

	*policy = *check->policy;
	policy->follow_blocking_keys = true;
	followed.policy = policy;
	if (check->policy->follow_blocking_keys ||
		try_part(&followed, &plan, NULL) != NULL ||
		try_part(&followed, &plan, sd_discover) != NULL)
		return check->plan;
	return plan;
}

/* Make a part of the plan; false, and a finding with that code, if it is not fit */
static bool
make_part(Check *check, DeletionPlan **plan, void (*make) (DeletionPlan *plan),
		  const char *code)
{
	ErrorData  *error = try_part(check, plan, make);

	if (error != NULL)
		add_error(check, code, error);
	return error == NULL;
}

static ErrorData *
try_part(Check *check, DeletionPlan **plan, void (*make) (DeletionPlan *plan))
{
	PlanPart	part = {check, *plan, make};
	bool		done;
	ErrorData  *error = sd_in_subtransaction(part_body, &part, true, &done);

	if (error != NULL && sd_concerns_the_call(error))
		ReThrowError(error);
	*plan = part.plan;
	return error;
}

static bool
part_body(void *arg)
{
	PlanPart   *part = arg;

	if (part->make == NULL)
		part->plan = sd_begin_plan(part->check->policy, AccessShareLock);
	else
		part->make(part->plan);
	return true;
}

/*
 * Add what a run would stop with.  A foreign key of an audit table is named by
 * each check that it fails, and told once.
 */
static void
add_error(Check *check, const char *code, ErrorData *error)
{
	Failure    *failure = sd_fatal_failure(error);
	bool		is_audit = strcmp(code, "audit_table") == 0;
	Oid			table = is_audit ? check->policy->audit_table :
		check->policy->account_table;
	char	   *object = get_rel_name(table) != NULL ? sd_sql_name(table) :
		is_audit ? check->policy->audit_table_name :
		check->policy->account_table_name;
	char	   *remedy = NULL;
	Finding    *finding;

	if (error->constraint_name != NULL &&
		error->sqlerrcode == ERRCODE_INVALID_FOREIGN_KEY)
	{
		code = "audit_reference";
		remedy = sd_drop_constraint(quote_qualified_identifier(error->schema_name,
															   error->table_name),
									error->constraint_name);
	}
	if (remedy != NULL && sd_has_remedy(check->findings, remedy))
		return;

	finding = sd_add_finding(check, SD_ERROR, code, object, failure->message);
	finding->hint = failure->hint;
	finding->remedy = remedy;
}

/* The grave ones first; others stay in the order in which they were found */
static int
compare_findings(const ListCell *a, const ListCell *b)
{
	const Finding *left = lfirst(a);
	const Finding *right = lfirst(b);

	if (left->severity != right->severity)
		return left->severity < right->severity ? -1 : 1;
	return left->number - right->number;
}
