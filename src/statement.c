/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  The statements of a plan's steps.  Only this file, statement_account.c and
 *	  statement_above.c write SQL on users' tables.
 *
 * Tables are written with their schema, operators as OPERATOR(schema.name) and
 * types with theirs; values are parameters.  So the text means the same under
 * any search_path, and the caller's need not be replaced: triggers of the
 * user's tables see the one that they would see in any other DELETE.  Times are
 * never now(): a distributed table's worker has a clock of its own.
 *
 * In the comments, <link> stands for the condition that a row leads to an
 * account of the attempt,
 *
 *	t.<column> = ANY ($n) [AND ...]
 *	[AND EXISTS (SELECT FROM ROWS FROM (unnest($n), ...) k (c1, ...)
 *		WHERE t.<column> = k.c1 AND ...)]			if it has several columns
 *	[AND t.tableoid = ANY ('{<table>, ...}')]		for rows of a partition, or
 *													of a parent alone
 *	[AND t.<match column> = $n ...]
 *
 * where $n is an array of a key's values, and <goes> for the condition that a
 * row is deleted anyway: any of the <link>s of the step that deletes from its
 * table.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/statement.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "scheduled_deletion.h"

static void note_uniqueness(PlanKey *key);
static void choose_access(PlanLink *link);
static void write_link_statements(DeletionPlan *plan, PlanLink *link);
static void write_collect(PlanLink *link, bool lock, PlanStatement *collect);
static void append_rows(DeletionPlan *plan, PlanStatement *statement,
						PlanLink *link);
static void write_deletes(DeletionPlan *plan, PlanStage *stage);
static void write_delete(DeletionPlan *plan, PlanStage *stage, List *steps,
						 List *links);
static List *other_links(DeletionPlan *plan, DeletePart *part);
static void note_sharing(DeletePart *part);
static List *append_delete(DeletionPlan *plan, PlanStatement *statement,
						   DeletePart *part, bool is_named);
static void append_union(PlanStatement *statement, List *types);
static void append_links(PlanStatement *statement, List *links);
static void append_link(PlanStatement *statement, PlanLink *link);
static void append_row_of_key(PlanStatement *statement, PlanLink *link);
static List *matches(PlanLink *link);
static bool is_restricted(PlanLink *link);
static void append_restriction(PlanStatement *statement, PlanLink *link);
static void append_match(PlanStatement *statement, PlanLink *link,
						 StepMatch *match);
static void append_key_array(PlanStatement *statement, PlanLink *link,
							 int column);
static int	key_param(PlanStatement *statement, PlanKey *key, int column);

/* Write all statements of a plan whose steps are in order */
void
sd_write_statements(DeletionPlan *plan)
{
	ListCell   *lc;

	foreach(lc, list_concat_copy(plan->steps, plan->watched))
	{
		ListCell   *cell;

		foreach(cell, ((PlanStep *) lfirst(lc))->keys)
			note_uniqueness(lfirst(cell));
	}
	choose_access(plan->self);
	foreach(lc, plan->links)
		choose_access(lfirst(lc));
	foreach(lc, plan->hold_links)
		choose_access(lfirst(lc));
	sd_write_account_statements(plan);
	foreach(lc, plan->hold_links)
	{
		PlanLink   *link = lfirst(lc);

		if (link->step->is_watched)
			continue;
		write_collect(link, false, &link->collect);
		sd_add_statement(plan, &link->collect);
	}
	foreach(lc, plan->steps)
	{
		ListCell   *cell;

		foreach(cell, ((PlanStep *) lfirst(lc))->links)
			write_link_statements(plan, lfirst(cell));
	}
	foreach(lc, plan->stages)
		write_deletes(plan, lfirst(lc));
}

/* Can no two rows have the same key? */
static void
note_uniqueness(PlanKey *key)
{
	key->is_unique = sd_is_unique(OidIsValid(key->member) ? key->member :
								  key->step->table, sd_key_names(key));
}

/* How the rows of a link are found */
static void
choose_access(PlanLink *link)
{
	RegProcedure left;
	RegProcedure right;

	if (!sd_has_index_for(link))
		link->access = SD_BY_SCAN;
	else if (link->ncolumns > 1)
		link->access = SD_BY_COLUMNS;
	else
		link->access = get_op_hash_functions(link->equals[0], &left, &right) &&
			left == right ? SD_BY_INDEX : SD_BY_ROWS;
}

/* Add a statement to those that a run prepares */
void
sd_add_statement(DeletionPlan *plan, PlanStatement *statement)
{
	plan->statements = lappend(plan->statements, statement);
}

/* Add a parameter to a statement; the answer is its number */
int
sd_add_param(PlanStatement *statement, ParamSource source, Oid type)
{
	StatementParam *param = palloc0(sizeof(StatementParam));

	param->source = source;
	param->type = type;
	statement->params = lappend(statement->params, param);
	return list_length(statement->params);
}

/* The columns of all keys of a step */
void
sd_append_key_values(StringInfo buf, PlanStep *step)
{
	ListCell   *lc;

	foreach(lc, step->keys)
	{
		PlanKey    *key = lfirst(lc);

		for (int i = 0; i < key->ncolumns; i++)
			appendStringInfo(buf, "%s%s", key->first_value + i > 0 ? ", " : "",
							 key->columns[i].value);
	}
}

/*
 * The statements of a link:
 *
 *	find:		SELECT t.<column>, ... FROM <table> t
 *				WHERE <link> [AND (<goes>) IS NOT TRUE]
 *	set_null:	UPDATE <table> t SET <column> = NULL, ...
 *				WHERE <link> [AND (<goes>) IS NOT TRUE]
 *	collect:	SELECT t.<column>, ..., t.<key>, ... FROM <table> t
 *				WHERE <link> [FOR UPDATE]
 *	collect_locked: the same, FOR UPDATE
 *
 * "find" tells whose rows stop an account, are set to null or its default, or
 * are kept; and afterwards, whose rows a trigger has left as they were, or have come
 * late: for that, it is prepared when it is first needed.  "collect"
 * is also asked of the account table, for accounts that are on hold.
 */
static void
write_link_statements(DeletionPlan *plan, PlanLink *link)
{
	PlanStep   *step = link->step;
	const char *table = sd_qualified_name(step->table);

	initStringInfo(&link->find.query);
	appendStringInfoString(&link->find.query, "SELECT ");
	sd_append_values(&link->find, link);
	appendStringInfo(&link->find.query, " FROM %s t WHERE ", table);
	append_rows(plan, &link->find, link);
	if (step->action == SD_BLOCK ? link->is_asked :
		step->action != SD_DELETE || step->can_keep_rows || link->is_free)
		sd_add_statement(plan, &link->find);

	if (step->action == SD_SET_NULL && !OidIsValid(link->constraint))
	{
		initStringInfo(&link->set_null.query);
		appendStringInfo(&link->set_null.query, "UPDATE %s t SET ", table);
		for (int i = 0; i < link->ncolumns; i++)
			appendStringInfo(&link->set_null.query, "%s%s = NULL",
							 i > 0 ? ", " : "",
							 quote_identifier(link->names[i]));
		appendStringInfoString(&link->set_null.query, " WHERE ");
		append_rows(plan, &link->set_null, link);
		sd_add_statement(plan, &link->set_null);
	}

	if (step->action == SD_DELETE && step->keys != NIL)
	{
		write_collect(link, sd_is_locked_when_collected(plan, step),
					  &link->collect);
		sd_add_statement(plan, &link->collect);
		write_collect(link, true, &link->collect_locked);
	}
}

/* In what follows, rows are locked if "lock" is set */
static void
write_collect(PlanLink *link, bool lock, PlanStatement *collect)
{
	PlanStep   *step = link->step;

	initStringInfo(&collect->query);
	appendStringInfoString(&collect->query, "SELECT ");
	sd_append_values(collect, link);
	appendStringInfoString(&collect->query, ", ");
	sd_append_key_values(&collect->query, step);
	appendStringInfo(&collect->query, " FROM %s t WHERE ",
					 sd_qualified_name(step->table));
	append_link(collect, link);
	if (lock)
		appendStringInfoString(&collect->query, " FOR UPDATE");
}

/* The rows of a link, but for those that are deleted by another one */
static void
append_rows(DeletionPlan *plan, PlanStatement *statement, PlanLink *link)
{
	append_link(statement, link);
	if (link->step->deleted_by == NULL || link->step->action == SD_DELETE)
		return;
	appendStringInfoString(&statement->query, " AND (");
	sd_append_goes(plan, statement, link->step->deleted_by);
	appendStringInfoString(&statement->query, ") IS NOT TRUE");
}

/*
 * The deletes of a stage: one for each link of its step or, of a circle, one
 * for all of its steps.
 */
static void
write_deletes(DeletionPlan *plan, PlanStage *stage)
{
	PlanStep   *step = linitial(stage->steps);
	ListCell   *lc;

	if (stage->is_circle)
		write_delete(plan, stage, stage->steps, NIL);
	else if (step == plan->account)
		write_delete(plan, stage, stage->steps, list_make1(plan->self));
	else if (step->action == SD_DELETE)
	{
		foreach(lc, step->links)
			write_delete(plan, stage, stage->steps, list_make1(lfirst(lc)));
	}
	if (step == plan->account && list_length(stage->steps) == 1)
		((PlanDelete *) linitial(stage->deletes))->statement.proved_checks = plan->proved_checks;
}

/*
 * A delete of the rows of all links of some steps, or of those links only:
 *
 *	DELETE FROM <table> t WHERE <link> [OR ...]
 *	RETURNING t.<column>, ... [, t.<other column>, ...] [, t.<key>, ...]
 *
 * with the columns of each link, of the others that may lead a row to an account
 * on hold, and of all keys of the step.  If there are several steps:
 *
 *	WITH d0 AS (DELETE ... RETURNING t.<column> AS c0, ...), d1 AS (...)
 *	SELECT 0, d0.c0, ..., NULL::<type>, ... FROM d0
 *	UNION ALL SELECT 1, NULL::<type>, ..., d1.c0, ... FROM d1
 */
static void
write_delete(DeletionPlan *plan, PlanStage *stage, List *steps, List *links)
{
	PlanDelete *delete = palloc0(sizeof(PlanDelete));
	PlanStatement *statement = &delete->statement;
	bool		is_union = list_length(steps) > 1;
	int			column = is_union ? 2 : 1;
	List	   *types = NIL;	/* of the columns of each part */
	ListCell   *lc;

	initStringInfo(&statement->query);
	statement->must_begin = true;
	if (is_union)
		appendStringInfoString(&statement->query, "WITH ");
	foreach(lc, steps)
	{
		DeletePart *part = palloc0(sizeof(DeletePart));
		List	   *part_types;

		part->step = lfirst(lc);
		part->links = links != NIL ? links :
			part->step == plan->account ? list_make1(plan->self) :
			part->step->links;
		part->others = other_links(plan, part);
		note_sharing(part);
		part->first_column = column;
		if (is_union)
			appendStringInfo(&statement->query, "%sd%d AS (",
							 foreach_current_index(lc) > 0 ? ", " : "",
							 foreach_current_index(lc));
		part_types = append_delete(plan, statement, part, is_union);
		if (is_union)
			appendStringInfoChar(&statement->query, ')');
		column += list_length(part_types);
		types = lappend(types, part_types);
		delete->parts = lappend(delete->parts, part);
	}
	if (is_union)
		append_union(statement, types);

	stage->deletes = lappend(stage->deletes, delete);
	sd_add_statement(plan, statement);
}

/*
 * The other links by which rows of a part's table belong to an account: those of
 * rows that are deleted, kept, or stop it; not those that are only set to null.
 */
static List *
other_links(DeletionPlan *plan, DeletePart *part)
{
	List	   *others = NIL;
	ListCell   *lc;

	foreach(lc, list_concat_copy(plan->links, plan->watch_links))
	{
		PlanLink   *link = lfirst(lc);
		StepAction	action = link->step->action;

		if (link->step->table != part->step->table ||
			part->step == plan->account ||
			list_member_ptr(part->links, link) ||
			(action != SD_DELETE && action != SD_KEEP && action != SD_BLOCK))
			continue;
		others = lappend(others, link);
	}
	return others;
}

/*
 * Note whether rows of a part may lead to several rows, since there are several
 * links, or columns that rows have in common.
 */
static void
note_sharing(DeletePart *part)
{
	List	   *links = list_concat_copy(part->links, part->others);
	ListCell   *lc;

	part->is_shared = list_length(links) > 1;
	foreach(lc, links)
	{
		part->is_shared = part->is_shared ||
			!((PlanLink *) lfirst(lc))->key->is_unique;
	}
}

/*
 * One DELETE, whose columns are c0, c1 and so on if "is_named".  Returns their
 * types.
 */
static List *
append_delete(DeletionPlan *plan, PlanStatement *statement, DeletePart *part,
			  bool is_named)
{
	List	   *values = NIL;
	List	   *types = NIL;
	ListCell   *lc;

	appendStringInfo(&statement->query, "DELETE FROM %s t WHERE ",
					 sd_qualified_name(part->step->table));
	if (part->step == plan->account)
		sd_append_goes(plan, statement, part->step);
	else
		append_links(statement, part->links);

	foreach(lc, list_concat_copy(part->links, part->others))
	{
		PlanLink   *link = lfirst(lc);

		for (int i = 0; i < link->ncolumns; i++)
		{
			values = lappend(values, sd_link_value(statement, link, i));
			types = lappend_oid(types, link->types[i]);
		}
	}
	foreach(lc, part->step == plan->account ? NIL : part->step->keys)
	{
		PlanKey    *key = lfirst(lc);

		for (int i = 0; i < key->ncolumns; i++)
		{
			values = lappend(values, key->columns[i].value);
			types = lappend_oid(types, key->columns[i].type);
		}
	}

	appendStringInfoString(&statement->query, " RETURNING ");
	foreach(lc, values)
	{
		int			i = foreach_current_index(lc);

		appendStringInfo(&statement->query, "%s%s", i > 0 ? ", " : "",
						 (char *) lfirst(lc));
		if (is_named)
			appendStringInfo(&statement->query, " AS c%d", i);
	}
	return types;
}

/* All rows of d0, d1 and so on, each with nulls for the columns of the others */
static void
append_union(PlanStatement *statement, List *types)
{
	for (int row = 0; row < list_length(types); row++)
	{
		appendStringInfo(&statement->query, " %sSELECT %d",
						 row > 0 ? "UNION ALL " : "", row);
		for (int part = 0; part < list_length(types); part++)
		{
			ListCell   *lc;

			foreach(lc, (List *) list_nth(types, part))
			{
				if (part == row)
					appendStringInfo(&statement->query, ", d%d.c%d", part,
									 foreach_current_index(lc));
				else
					appendStringInfo(&statement->query, ", NULL::%s",
									 sd_type_name(lfirst_oid(lc)));
			}
		}
		appendStringInfo(&statement->query, " FROM d%d", row);
	}
}

/* <goes>: the condition that a row of a step is deleted */
void
sd_append_goes(DeletionPlan *plan, PlanStatement *statement, PlanStep *step)
{
	if (step == plan->account)
	{
		append_link(statement, plan->self);
		appendStringInfoString(&statement->query, " AND ");
		sd_append_due(plan, statement);
	}
	else
		append_links(statement, step->links);
}

/* The condition that any of the links leads to an account */
static void
append_links(PlanStatement *statement, List *links)
{
	ListCell   *lc;

	foreach(lc, links)
	{
		if (foreach_current_index(lc) > 0)
			appendStringInfoString(&statement->query, " OR ");
		append_link(statement, lfirst(lc));
	}
}

/* <link>, in parentheses if it has several parts */
static void
append_link(PlanStatement *statement, PlanLink *link)
{
	bool		has_parts = link->ncolumns > 1 || is_restricted(link);

	statement->access = Max(statement->access, link->access);

	if (has_parts)
		appendStringInfoChar(&statement->query, '(');
	for (int i = 0; i < link->ncolumns; i++)
	{
		if (i > 0)
			appendStringInfoString(&statement->query, " AND ");
		appendStringInfoString(&statement->query, link->values[i]);
		sd_append_operator(&statement->query, link->equals[i]);
		appendStringInfoString(&statement->query, "ANY (");
		append_key_array(statement, link, i);
		appendStringInfoChar(&statement->query, ')');
	}
	if (link->ncolumns > 1)
		append_row_of_key(statement, link);
	if (is_restricted(link))
	{
		appendStringInfoString(&statement->query, " AND ");
		append_restriction(statement, link);
	}
	if (has_parts)
		appendStringInfoChar(&statement->query, ')');
}

/* The condition that the columns together are one of the keys */
static void
append_row_of_key(PlanStatement *statement, PlanLink *link)
{
	StringInfo	buf = &statement->query;

	appendStringInfoString(buf, " AND EXISTS (SELECT FROM ROWS FROM (");
	for (int i = 0; i < link->ncolumns; i++)
	{
		appendStringInfoString(buf, i > 0 ? ", pg_catalog.unnest(" :
							   "pg_catalog.unnest(");
		append_key_array(statement, link, i);
		appendStringInfoChar(buf, ')');
	}
	appendStringInfoString(buf, ") k (");
	for (int i = 0; i < link->ncolumns; i++)
		appendStringInfo(buf, "%sc%d", i > 0 ? ", " : "", i);
	appendStringInfoString(buf, ") WHERE ");
	for (int i = 0; i < link->ncolumns; i++)
	{
		appendStringInfo(buf, "%s%s", i > 0 ? " AND " : "", link->values[i]);
		sd_append_operator(buf, link->equals[i]);
		appendStringInfo(buf, "k.c%d", i);
	}
	appendStringInfoChar(buf, ')');
}

/* The values that rows must have for a link to be one */
static List *
matches(PlanLink *link)
{
	return link->definition == NULL ? NIL : link->definition->matches;
}

/* Does a link lead only some rows of its table to the key? */
static bool
is_restricted(PlanLink *link)
{
	return OidIsValid(link->member) || matches(link) != NIL;
}

/* The condition that a row is one of those */
static void
append_restriction(PlanStatement *statement, PlanLink *link)
{
	ListCell   *lc;

	if (OidIsValid(link->member))
		appendStringInfoString(&statement->query,
							   sd_member_condition(link->member));
	foreach(lc, matches(link))
	{
		if (OidIsValid(link->member) || foreach_current_index(lc) > 0)
			appendStringInfoString(&statement->query, " AND ");
		append_match(statement, link, lfirst(lc));
	}
}

/* The condition that a column has the value that the policy gives */
static void
append_match(PlanStatement *statement, PlanLink *link, StepMatch *match)
{
	AttrNumber	attnum = get_attnum(link->step->table, match->column);
	Oid			type = get_atttype(link->step->table, attnum);
	Oid			equals = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	Oid			input;
	Oid			ioparam;
	Oid			left;
	Oid			right;
	int			param;

	if (!OidIsValid(equals))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of step table \"%s\" has type %s, which has no equality",
						match->column, link->step->table_name,
						format_type_be(type)),
				 errhint("Match a column of another type.")));
	op_input_types(equals, &left, &right);
	if (IsPolymorphicType(left))
		left = right = getBaseType(type);

	param = sd_add_param(statement, SD_PARAM_CONSTANT, right);
	getTypeInputInfo(right, &input, &ioparam);
	((StatementParam *) llast(statement->params))->value =
		OidInputFunctionCall(input, match->value, ioparam, -1);

	appendStringInfo(&statement->query, "t.%s", quote_identifier(match->column));
	if (type != left)
		appendStringInfo(&statement->query, "::%s", sd_type_name(left));
	sd_append_operator(&statement->query, equals);
	appendStringInfo(&statement->query, "$%d", param);
}

/* The values of a link, for rows that may be those of other links */
void
sd_append_values(PlanStatement *statement, PlanLink *link)
{
	for (int i = 0; i < link->ncolumns; i++)
		appendStringInfo(&statement->query, "%s%s", i > 0 ? ", " : "",
						 link->values[i]);
}

/* One value of a link; null in rows that it does not lead to the key */
char *
sd_link_value(PlanStatement *statement, PlanLink *link, int column)
{
	PlanStatement restriction = *statement;

	if (!is_restricted(link))
		return link->values[column];

	initStringInfo(&restriction.query);
	append_restriction(&restriction, link);
	statement->params = restriction.params;
	return psprintf("CASE WHEN %s THEN %s END", restriction.query.data,
					link->values[column]);
}

/*
 * The array of a column of the key that a link leads to, as its operator takes
 * it
 */
static void
append_key_array(PlanStatement *statement, PlanLink *link, int column)
{
	Oid			left;
	Oid			right;

	op_input_types(link->equals[column], &left, &right);
	appendStringInfo(&statement->query, "$%d",
					 key_param(statement, link->key, column));
	if (!IsPolymorphicType(right))
		appendStringInfo(&statement->query, "::%s",
						 sd_type_name(get_array_type(right)));
}

/* The parameter that is the array of a key's column; added if there is none */
static int
key_param(PlanStatement *statement, PlanKey *key, int column)
{
	StatementParam *param;
	ListCell   *lc;
	int			number;

	foreach(lc, statement->params)
	{
		param = lfirst(lc);
		if (param->key == key && param->column == column)
			return foreach_current_index(lc) + 1;
	}
	number = sd_add_param(statement, SD_PARAM_KEYS,
						  key->columns[column].array_type);
	param = llast(statement->params);
	param->key = key;
	param->column = column;
	return number;
}
