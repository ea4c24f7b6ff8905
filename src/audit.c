/*-------------------------------------------------------------------------
 *
 * audit.c
 *	  The audit table: whether it can take a row for each deleted account and
 *	  keep it, and the writing of those rows.
 *
 * The columns that are filled are called user_id, action, details, performed_by
 * and created_at here, whatever the policy says that they are called there.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/audit.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run.h"

/* audit rows that are written at once: each takes some kB of memory until then */
#define AUDIT_ROWS		1000

/* What is written, in the order of the columns of the INSERT */
typedef enum AuditColumn
{
	AUDIT_USER_ID,
	AUDIT_ACTION,
	AUDIT_DETAILS,
	AUDIT_PERFORMED_BY,
	AUDIT_CREATED_AT,
	NAUDIT_COLUMNS
} AuditColumn;

static const struct
{
	const char *name;
	bool		is_required;	/* else the policy may say that there is none */
	const char *value;			/* that the INSERT selects */
}			audit_columns[NAUDIT_COLUMNS] =

{
	{"user_id", true, "u.k"},
	{"action", true, "$3"},
	{"details", true, "u.d"},
	{"performed_by", false, "$5"},
	{"created_at", false, "$4"},
};

static void write_some_audit_rows(Run *run, Account **accounts, int naccounts);
static void find_columns(DeletionPlan *plan, Relation rel,
						 Form_pg_attribute *columns);
static char *column_name(DeletionPolicy *policy, AuditColumn column);
static char *suggest_columns(DeletionPlan *plan, Relation rel);
static Form_pg_attribute guess_column(Relation rel, const char *name);
static char *bare_letters(const char *name);
static void check_unknown_names(DeletionPolicy *policy);
static bool is_audit_column(JsonbValue *string);
static void check_types(DeletionPlan *plan, Relation rel,
						Form_pg_attribute *columns);
static void check_action_fits(Relation rel, Form_pg_attribute action);
static void check_not_generated(Relation rel, Form_pg_attribute *columns);
static void require_type(Relation rel, Form_pg_attribute column, Oid type);
static void check_other_columns(Relation rel, Form_pg_attribute *columns);
static void check_rows_stay(DeletionPlan *plan, Relation rel,
							Form_pg_attribute user_id);
pg_noreturn static void throw_audit_cascade(PlanLink *link);
static void write_statement(DeletionPlan *plan, Relation rel,
							Form_pg_attribute *columns);
static Datum audit_key(DeletionPlan *plan, Datum *key);
static void write_rows(DeletionPlan *plan, Datum *keys, Datum *details,
					   int nrows, const char *action, Datum *performed_by);

/*
 * Find the columns of the policy's audit table, refuse one that is not fit, and
 * write the statement that fills it.  The table is locked afterwards.
 */
void
sd_resolve_audit_table(DeletionPlan *plan)
{
	DeletionPolicy *policy = plan->policy;
	Relation	rel = sd_open_table(policy, "audit table", policy->audit_table,
									policy->audit_number, policy->audit_table_name,
									plan->lockmode);
	Form_pg_attribute columns[NAUDIT_COLUMNS];

	find_columns(plan, rel, columns);
	check_types(plan, rel, columns);
	check_not_generated(rel, columns);
	check_other_columns(rel, columns);
	check_rows_stay(plan, rel, columns[AUDIT_USER_ID]);
	write_statement(plan, rel, columns);
	table_close(rel, NoLock);
}

/* Find the columns; NULL for one of which the policy says that there is none */
static void
find_columns(DeletionPlan *plan, Relation rel, Form_pg_attribute *columns)
{
	List	   *missing = NIL;

	check_unknown_names(plan->policy);
	for (int i = 0; i < NAUDIT_COLUMNS; i++)
	{
		char	   *name = column_name(plan->policy, i);

		columns[i] = name == NULL ? NULL : sd_find_column(rel, name);
		if (columns[i] == NULL && (name != NULL || audit_columns[i].is_required))
			missing = lappend(missing, name != NULL ? name :
							  pstrdup(audit_columns[i].name));
	}
	if (missing != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg_plural("audit table \"%s\" of deletion policy \"%s\" lacks column %s",
							   "audit table \"%s\" of deletion policy \"%s\" lacks columns %s",
							   list_length(missing),
							   sd_table_name(RelationGetRelid(rel)),
							   plan->policy->name, sd_name_list(missing)),
				 errhint("If they have other names, give those: audit_columns => %s. A null stands for no such column, of performed_by and created_at.",
						 quote_literal_cstr(suggest_columns(plan, rel)))));
}

/* What a column is called, or NULL if the policy says that there is none */
static char *
column_name(DeletionPolicy *policy, AuditColumn column)
{
	const char *name = audit_columns[column].name;
	JsonbValue *value;
	JsonbValue	buf;

	if (policy->audit_columns == NULL)
		return pstrdup(name);
	value = getKeyJsonValueFromContainer(&policy->audit_columns->root, name,
										 strlen(name), &buf);
	if (value == NULL)
		return pstrdup(name);
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	return NULL;
}

/* The audit_columns for the columns that there are, as far as can be guessed */
static char *
suggest_columns(DeletionPlan *plan, Relation rel)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (int i = 0; i < NAUDIT_COLUMNS; i++)
	{
		char	   *name = column_name(plan->policy, i);
		Form_pg_attribute column = name != NULL ? sd_find_column(rel, name) : NULL;

		if (column == NULL)
			column = guess_column(rel, audit_columns[i].name);
		if (column != NULL &&
			strcmp(NameStr(column->attname), audit_columns[i].name) == 0)
			continue;
		appendStringInfo(&buf, "%s\"%s\": ", buf.len > 1 ? ", " : "",
						 audit_columns[i].name);
		if (column != NULL)
			escape_json(&buf, NameStr(column->attname));
		else
			appendStringInfoString(&buf, audit_columns[i].is_required ?
								   "\"...\"" : "null");
	}
	appendStringInfoChar(&buf, '}');
	return buf.data;
}

/* A column whose name is the same but for case and underscores, or NULL */
static Form_pg_attribute
guess_column(Relation rel, const char *name)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(tupdesc, i);

		if (!attr->attisdropped &&
			strcmp(bare_letters(NameStr(attr->attname)), bare_letters(name)) == 0)
			return attr;
	}
	return NULL;
}

static char *
bare_letters(const char *name)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (; *name != '\0'; name++)
	{
		if (*name != '_')
			appendStringInfoChar(&buf, pg_tolower((unsigned char) *name));
	}
	return buf.data;
}

/* Refuse audit_columns that are not names for ours */
static void
check_unknown_names(DeletionPolicy *policy)
{
	Jsonb	   *names = policy->audit_columns;
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	bool		is_known;

	if (names == NULL)
		return;

	is_known = JB_ROOT_IS_OBJECT(names);
	it = JsonbIteratorInit(&names->root);
	while (is_known && (token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			is_known = is_audit_column(&value);
		else if (token == WJB_VALUE)
			is_known = value.type == jbvString || value.type == jbvNull;
	}
	if (!is_known)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("audit_columns of deletion policy \"%s\" must give names to columns of the audit table",
						policy->name),
				 errhint("Use an object with any of the keys user_id, action, details, performed_by and created_at.")));
}

/* Is a string what we call one of the columns? */
static bool
is_audit_column(JsonbValue *string)
{
	for (int i = 0; i < NAUDIT_COLUMNS; i++)
	{
		const char *name = audit_columns[i].name;

		if (strlen(name) == string->val.string.len &&
			strncmp(name, string->val.string.val, string->val.string.len) == 0)
			return true;
	}
	return false;
}

/*
 * The columns take what they are given.  user_id takes keys of their own type
 * or, as text, of any.
 */
static void
check_types(DeletionPlan *plan, Relation rel, Form_pg_attribute *columns)
{
	Form_pg_attribute user_id = columns[AUDIT_USER_ID];
	Oid			user_id_type = getBaseType(user_id->atttypid);
	Oid			key_type = plan->key->columns[0].type;

	if (plan->key->ncolumns == 1 && IsBinaryCoercible(user_id_type, key_type))
		plan->audit_key_type = key_type;
	else if (user_id_type == TEXTOID || user_id_type == VARCHAROID)
		plan->audit_key_type = TEXTOID;
	else
		require_type(rel, user_id, plan->key->ncolumns == 1 ? key_type : TEXTOID);

	if (getBaseType(columns[AUDIT_ACTION]->atttypid) != VARCHAROID)
		require_type(rel, columns[AUDIT_ACTION], TEXTOID);
	check_action_fits(rel, columns[AUDIT_ACTION]);
	require_type(rel, columns[AUDIT_DETAILS], JSONBOID);
	if (columns[AUDIT_CREATED_AT] != NULL)
		require_type(rel, columns[AUDIT_CREATED_AT], TIMESTAMPTZOID);

	if (columns[AUDIT_PERFORMED_BY] != NULL &&
		columns[AUDIT_PERFORMED_BY]->attnotnull)
	{
		const char *name = NameStr(columns[AUDIT_PERFORMED_BY]->attname);

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("column \"%s\" of audit table \"%s\" is NOT NULL",
						name, sd_table_name(RelationGetRelid(rel))),
				 errdetail("A scheduled deletion is performed by nobody, and written as null."),
				 errhint("Run ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL.",
						 sd_qualified_name(RelationGetRelid(rel)),
						 quote_identifier(name))));
	}
}

/* The longest of our actions has room */
static void
check_action_fits(Relation rel, Form_pg_attribute action)
{
	int32		typmod = action->atttypmod;
	Oid			type = getBaseTypeAndTypmod(action->atttypid, &typmod);

	if (type == VARCHAROID && typmod >= VARHDRSZ &&
		typmod - VARHDRSZ < strlen("delete_requested"))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of audit table \"%s\" is too short for \"delete_requested\"",
						NameStr(action->attname),
						sd_table_name(RelationGetRelid(rel))),
				 errhint("Change the column's type to text.")));
}

/* Columns that are filled by themselves cannot be given a value */
static void
check_not_generated(Relation rel, Form_pg_attribute *columns)
{
	for (int i = 0; i < NAUDIT_COLUMNS; i++)
	{
		if (columns[i] != NULL &&
			(columns[i]->attgenerated != '\0' ||
			 columns[i]->attidentity == ATTRIBUTE_IDENTITY_ALWAYS))
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("column \"%s\" of audit table \"%s\" is always generated",
							NameStr(columns[i]->attname),
							sd_table_name(RelationGetRelid(rel))),
					 errhint("Let it be an ordinary column, or name another one in audit_columns.")));
	}
}

/* Refuse a column that is not of exactly that type, or a domain over it */
static void
require_type(Relation rel, Form_pg_attribute column, Oid type)
{
	if (getBaseType(column->atttypid) != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of audit table \"%s\" has type %s, not %s",
						NameStr(column->attname),
						sd_table_name(RelationGetRelid(rel)),
						format_type_be(column->atttypid),
						format_type_be(type)),
				 errhint("Change the column's type to %s%s.",
						 format_type_be(type),
						 type != TEXTOID && type != JSONBOID && type != TIMESTAMPTZOID ?
						 ", or to text" : "")));
}

/* Other columns fill themselves */
static void
check_other_columns(Relation rel, Form_pg_attribute *columns)
{
	TupleDesc	tupdesc = RelationGetDescr(rel);

	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(tupdesc, i);
		bool		is_filled = false;

		for (int j = 0; j < NAUDIT_COLUMNS; j++)
			is_filled = is_filled ||
				(columns[j] != NULL && columns[j]->attnum == attr->attnum);
		if (attr->attnotnull && !attr->attisdropped && !attr->atthasdef &&
			attr->attidentity == '\0' &&
			get_typdefault(attr->atttypid) == NULL && !is_filled)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("column \"%s\" of audit table \"%s\" is NOT NULL and has no default",
							NameStr(attr->attname),
							sd_table_name(RelationGetRelid(rel))),
					 errhint("Give it a default, or drop NOT NULL.")));
	}
}

/* Neither a crash nor the deletion of its account takes an audit row away */
static void
check_rows_stay(DeletionPlan *plan, Relation rel, Form_pg_attribute user_id)
{
	const char *name = sd_table_name(RelationGetRelid(rel));
	ListCell   *lc;

	foreach(lc, find_all_inheritors(RelationGetRelid(rel), NoLock, NULL))
	{
		if (get_rel_persistence(lfirst_oid(lc)) != RELPERSISTENCE_PERMANENT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("audit table \"%s\" is not permanent",
							sd_table_name(lfirst_oid(lc))),
					 errdetail("A crash would empty it, and leave the accounts deleted."),
					 errhint("Run ALTER TABLE %s SET LOGGED.",
							 sd_qualified_name(lfirst_oid(lc)))));
	}

	foreach(lc, sd_foreign_keys(rel))
	{
		ForeignKeyCacheInfo *fk = lfirst_node(ForeignKeyCacheInfo, lc);

		for (int i = 0; i < fk->nkeys; i++)
		{
			if (list_member_oid(plan->account_tables, fk->confrelid) &&
				fk->conkey[i] == user_id->attnum)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_FOREIGN_KEY),
						 errmsg("column \"%s\" of audit table \"%s\" references the account table",
								NameStr(user_id->attname), name),
						 errdetail("An audit row could not outlive its account."),
						 errhint("Drop constraint \"%s\".",
								 get_constraint_name(fk->conoid)),
						 errtableconstraint(rel, get_constraint_name(fk->conoid))));
		}
	}
}

/*
 * Refuse a plan in which a foreign key would delete audit rows with what they
 * refer to.
 */
void
sd_refuse_audit_cascades(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, plan->steps)
	{
		PlanStep   *step = lfirst(lc);
		ListCell   *cell;

		if (step->action != SD_BLOCK || !sd_is_audit_table(plan, step->table))
			continue;
		foreach(cell, step->links)
		{
			PlanLink   *link = lfirst(cell);

			if (link->cascades)
				throw_audit_cascade(link);
		}
	}
}

static void
throw_audit_cascade(PlanLink *link)
{
	const char *name = get_constraint_name(link->constraint);
	Relation	rel = table_open(link->step->table, NoLock);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_FOREIGN_KEY),
			 errmsg("foreign key \"%s\" deletes rows of audit table \"%s\"",
					name, link->step->table_name),
			 errdetail("An audit row could not outlive what it refers to."),
			 errhint("Drop the constraint, or give it the action SET NULL."),
			 errtableconstraint(rel, name)));
}

/*
 * The audit rows, one for each key and its details:
 *
 *	INSERT INTO <audit table> (user_id, action, details, performed_by, created_at)
 *	SELECT u.k, $3, u.d, $5, $4
 *	FROM ROWS FROM (unnest($1), unnest($2)) u (k, d)
 *
 * with the names of those columns that there are.
 */
static void
write_statement(DeletionPlan *plan, Relation rel, Form_pg_attribute *columns)
{
	PlanStatement *audit = &plan->audit;
	StringInfoData values;

	initStringInfo(&audit->query);
	initStringInfo(&values);
	appendStringInfo(&audit->query, "INSERT INTO %s (",
					 sd_qualified_name(RelationGetRelid(rel)));
	for (int i = 0; i < NAUDIT_COLUMNS; i++)
	{
		if (columns[i] == NULL)
			continue;
		appendStringInfo(&audit->query, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(columns[i]->attname)));
		appendStringInfo(&values, "%s%s", i > 0 ? ", " : "",
						 audit_columns[i].value);
	}
	appendStringInfo(&audit->query, ") SELECT %s"
					 " FROM ROWS FROM (pg_catalog.unnest($1),"
					 " pg_catalog.unnest($2)) u (k, d)", values.data);

	sd_add_param(audit, SD_PARAM_CALLER, get_array_type(plan->audit_key_type));
	sd_add_param(audit, SD_PARAM_CALLER, JSONBARRAYOID);
	sd_add_param(audit, SD_PARAM_CALLER, TEXTOID);
	sd_add_param(audit, SD_PARAM_CALLER, TIMESTAMPTZOID);
	if (columns[AUDIT_PERFORMED_BY] != NULL)
	{
		plan->performed_by_type =
			getBaseType(columns[AUDIT_PERFORMED_BY]->atttypid);
		sd_add_param(audit, SD_PARAM_CALLER, plan->performed_by_type);
	}
	sd_add_statement(plan, audit);
}

/*
 * Write the audit rows of accounts whose rows have just been deleted, in the
 * same subtransaction; throws an error unless there is one for each of them.
 */
void
sd_write_audit_rows(Run *run, Account **accounts, int naccounts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "scheduled_deletion audit rows",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller_context = MemoryContextSwitchTo(context);

	for (int i = 0; i < naccounts; i += AUDIT_ROWS)
	{
		write_some_audit_rows(run, accounts + i, Min(AUDIT_ROWS, naccounts - i));
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller_context);
	MemoryContextDelete(context);
}

/* Write those of so many that one statement takes; the caller frees the memory */
static void
write_some_audit_rows(Run *run, Account **accounts, int naccounts)
{
	Datum	   *keys = palloc(sizeof(Datum) * naccounts);
	Datum	   *details = palloc(sizeof(Datum) * naccounts);

	for (int i = 0; i < naccounts; i++)
	{
		keys[i] = audit_key(run->plan, accounts[i]->key);
		details[i] = JsonbPGetDatum(sd_audit_details(run, accounts[i]));
	}
	write_rows(run->plan, keys, details, naccounts, "hard_deleted", NULL);
}

/*
 * Who did something, as the audit table takes it: a key, given as text.  Throws
 * an error if it is not of its type, or if there is no column for it.
 */
Datum
sd_performed_by(DeletionPlan *plan, char *performed_by)
{
	if (!OidIsValid(plan->performed_by_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("audit table \"%s\" of deletion policy \"%s\" has no column for performed_by",
						sd_table_name(plan->policy->audit_table),
						plan->policy->name),
				 errhint("Leave it out, or name a column in the policy's audit_columns.")));
	return sd_value_from_text(plan->performed_by_type, performed_by,
							  "performed_by");
}

/*
 * Write one audit row of another action, by somebody, or by the system if that is
 * NULL; the statement must be prepared.
 */
void
sd_write_audit_row(DeletionPlan *plan, Datum *key, const char *action,
				   Jsonb *details, Datum *performed_by)
{
	Datum		audit_key_value = audit_key(plan, key);
	Datum		details_value = JsonbPGetDatum(details);

	write_rows(plan, &audit_key_value, &details_value, 1, action, performed_by);
}

/* A key as the audit table takes it */
static Datum
audit_key(DeletionPlan *plan, Datum *key)
{
	if (plan->key->ncolumns > 1 ||
		plan->audit_key_type != plan->key->columns[0].type)
		return CStringGetTextDatum(sd_key_text(plan->key, key));
	return key[0];
}

static void
write_rows(DeletionPlan *plan, Datum *keys, Datum *details, int nrows,
		   const char *action, Datum *performed_by)
{
	Datum		values[5] = {0};
	char		nulls[] = {' ', ' ', ' ', ' ', performed_by == NULL ? 'n' : ' '};
	int16		typlen;
	bool		typbyval;
	char		typalign;
	uint64		nwritten;

	get_typlenbyvalalign(plan->audit_key_type, &typlen, &typbyval, &typalign);
	values[0] = PointerGetDatum(construct_array(keys, nrows,
												plan->audit_key_type,
												typlen, typbyval, typalign));
	values[1] = PointerGetDatum(construct_array(details, nrows, JSONBOID,
												-1, false, TYPALIGN_INT));
	values[2] = CStringGetTextDatum(action);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (performed_by != NULL)
		values[4] = *performed_by;
	nwritten = sd_execute(&plan->audit, SPI_OK_INSERT, values, nulls, NULL);

	if (nwritten != nrows)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
				 errmsg_plural("%d audit row was to be written, but " UINT64_FORMAT " were",
							   "%d audit rows were to be written, but " UINT64_FORMAT " were",
							   nrows, nrows, nwritten)));
}
