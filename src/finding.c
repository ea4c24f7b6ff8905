/*-------------------------------------------------------------------------
 *
 * finding.c
 *	  How findings are made, and what all of them have to say alike.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/finding.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "check.h"

/* Add a finding to a check; the caller fills in its detail, hint and remedy */
Finding *
sd_add_finding(Check *check, Severity severity, const char *code,
			   char *object, char *message)
{
	Finding    *finding = palloc0(sizeof(Finding));

	finding->policy = check->policy->name;
	finding->severity = severity;
	finding->number = list_length(check->findings);
	finding->code = code;
	finding->object = object;
	finding->message = message;
	check->findings = lappend(check->findings, finding);
	return finding;
}

/* Is there a finding that is mended by the same? */
bool
sd_has_remedy(List *findings, const char *remedy)
{
	ListCell   *lc;

	foreach(lc, findings)
	{
		Finding    *finding = lfirst(lc);

		if (finding->remedy != NULL && strcmp(finding->remedy, remedy) == 0)
			return true;
	}
	return false;
}

/*
 * The call that adds the step which a link would be: an action, or "delete" if
 * NULL
 */
char *
sd_step_remedy(Check *check, PlanLink *link, const char *action)
{
	PlanKey    *key = link->key;
	bool		leads_to_account = key->step == check->plan->account ||
		key->step == check->followed->account;
	Oid			via = OidIsValid(key->member) ? key->member : key->step->table;
	List	   *default_columns = check->policy->key_columns;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "%s, %s, %s",
					 sd_own_call(check->policy, "add_deletion_step"),
					 quote_literal_cstr(sd_qualified_name(OidIsValid(link->member) ?
														  link->member :
														  link->step->table)),
					 sd_name_array_literal(sd_link_names(link)));
	if (action != NULL)
		appendStringInfo(&buf, ", action => %s", quote_literal_cstr(action));
	if (!leads_to_account)
	{
		Relation	rel = table_open(key->step->table, NoLock);

		default_columns = sd_primary_key_columns(rel);
		table_close(rel, NoLock);
		appendStringInfo(&buf, ", via => %s",
						 quote_literal_cstr(sd_qualified_name(via)));
	}
	if (!sd_same_names(default_columns, sd_key_names(key)))
		appendStringInfo(&buf, ", via_columns => %s",
						 sd_name_array_literal(sd_key_names(key)));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* The statement that drops a constraint of a table, which is named as in SQL */
char *
sd_drop_constraint(const char *table, const char *constraint)
{
	return psprintf("ALTER TABLE %s DROP CONSTRAINT %s", table,
					quote_identifier(constraint));
}

/* How many rows a table has, in words */
char *
sd_about_rows(Oid table)
{
	double		rows = sd_count_tuples(table);

	if (rows == SD_UNKNOWN)
		return "an unknown number of rows (run ANALYZE)";
	return psprintf("about %.0f rows", rows);
}
