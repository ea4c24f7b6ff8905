/*-------------------------------------------------------------------------
 *
 * key_text.c
 *	  Keys as text: how an account is named by people, and in tables of ours.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/key_text.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "scheduled_deletion.h"

static char *value_text(Oid type, Datum value);
static void tell_argument(void *arg);

/*
 * A key as portable text: as its type's output function writes it, a composite
 * one as a row.
 */
char *
sd_key_text(PlanKey *key, Datum *values)
{
	Oid			type = key->columns[0].type;
	bool	   *nulls;
	int			nestlevel;
	char	   *text;

	if (key->tupdesc == NULL && (type == UUIDOID || type == INT4OID ||
								 type == INT8OID || type == TEXTOID))
		return value_text(type, values[0]);

	nestlevel = sd_begin_portable_text();
	if (key->tupdesc == NULL)
		text = value_text(type, values[0]);

	else
	{
		nulls = palloc0(sizeof(bool) * key->ncolumns);
		text = OidOutputFunctionCall(F_RECORD_OUT,
									 HeapTupleGetDatum(heap_form_tuple(key->tupdesc,
																	   values, nulls)));
	}
	AtEOXact_GUC(true, nestlevel);
	return text;
}

static char *
value_text(Oid type, Datum value)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	return OidOutputFunctionCall(output, value);
}

/* A value from its text, which was given as that argument of a function */
Datum
sd_value_from_text(Oid type, char *text, const char *argument)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = tell_argument,
		.arg = unconstify(char *, argument)
	};
	Oid			input;
	Oid			ioparam;
	Datum		value;

	error_context_stack = &callback;
	getTypeInputInfo(type, &input, &ioparam);
	value = OidInputFunctionCall(input, text, ioparam, -1);
	error_context_stack = callback.previous;
	return value;
}

static void
tell_argument(void *arg)
{
	errcontext("reading argument %s", (char *) arg);
}

/*
 * A key from its text, in memory of its own.  Throws what the types' input
 * functions do.
 */
Datum *
sd_key_from_text(PlanKey *key, char *text)
{
	Datum	   *values = palloc(sizeof(Datum) * key->ncolumns);
	bool	   *nulls = palloc0(sizeof(bool) * key->ncolumns);

	if (key->tupdesc == NULL)
		values[0] = sd_value_from_text(key->columns[0].type, text, "account");
	else
	{
		HeapTupleHeader row = DatumGetHeapTupleHeader(OidInputFunctionCall(F_RECORD_IN,
																		   text,
																		   RECORDOID,
																		   key->tupdesc->tdtypmod));
		HeapTupleData tuple = {0};

		tuple.t_len = HeapTupleHeaderGetDatumLength(row);
		tuple.t_data = row;
		heap_deform_tuple(&tuple, key->tupdesc, values, nulls);
	}
	for (int i = 0; i < key->ncolumns; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key column \"%s\" of an account must not be null",
							key->columns[i].name)));
	}
	return values;
}

/* The row type by which a composite key is written; NULL for one of one column */
TupleDesc
sd_key_tupdesc(PlanKey *key)
{
	TupleDesc	tupdesc;

	if (key->ncolumns == 1)
		return NULL;
	tupdesc = CreateTemplateTupleDesc(key->ncolumns);
	for (int i = 0; i < key->ncolumns; i++)
		TupleDescInitEntry(tupdesc, i + 1, key->columns[i].name,
						   key->columns[i].type, -1, 0);
	return BlessTupleDesc(tupdesc);
}

/*
 * Let text that is written by one session mean the same when another one reads
 * it, until AtEOXact_GUC() is called with the answer, or until an error.
 */
int
sd_begin_portable_text(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			settings[] =
	{
		{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"}, {"extra_float_digits", "1"},
		{"bytea_output", "hex"}, {"lc_monetary", "C"}
	};
	int			nestlevel = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i].name, settings[i].value,
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	return nestlevel;
}

/*
 * Do values that the key takes for equal have the same text?  Then they
 * can be looked up by that.
 */
bool
sd_has_exact_text(PlanKey *key)
{
	for (int i = 0; i < key->ncolumns; i++)
	{
		KeyColumn  *column = &key->columns[i];

		if (column->opfamily >= FirstNormalObjectId)
			return false;
		switch (column->type)
		{
			case INT2OID:
			case INT4OID:
			case INT8OID:
			case OIDOID:
			case UUIDOID:
			case DATEOID:
			case BYTEAOID:
				break;
			case TEXTOID:
			case VARCHAROID:
				if (!get_collation_isdeterministic(column->collation))
					return false;
				break;
			default:
				return false;
		}
	}
	return true;
}
