/*-------------------------------------------------------------------------
 *
 * receive.c
 *	  Execute a statement for the accounts of an attempt, and give each row that
 *	  it returns to the account that it belongs to.
 *
 * Rows stream by, and none is kept; what a handler allocates is freed after it.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/receive.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "run.h"

typedef struct RowReceiver
{
	DestReceiver pub;
	Attempt    *attempt;
	RowHandler	handler;
	void	   *arg;			/* passed to it */
	MemoryContext row_context;	/* reset for each row */
} RowReceiver;

static uint64 for_each(Attempt *attempt, PlanStatement *statement, int expected,
					   Datum *values, RowHandler handler, void *arg);
static bool receive_row(TupleTableSlot *slot, DestReceiver *self);

/* Note what an error would interrupt */
void
sd_set_doing(Attempt *attempt, const char *doing, Oid table)
{
	attempt->doing = doing;
	attempt->table = table;
}

/*
 * The values of a statement's parameters: from the caller what it gives, in its
 * order, and the keys of all rows in the attempt; of those to which "collected"
 * leads, if it is given, only the ones that are new to it.
 */
Datum *
sd_bind(Run *run, Attempt *attempt, PlanStatement *statement,
		Datum *caller_values, PlanLink *collected)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(statement->params), 1));
	ListCell   *lc;

	foreach(lc, statement->params)
	{
		StatementParam *param = lfirst(lc);
		Datum	   *value = &values[foreach_current_index(lc)];

		switch (param->source)
		{
			case SD_PARAM_CALLER:
				*value = *caller_values++;
				break;
			case SD_PARAM_CONSTANT:
				*value = param->value;
				break;
			case SD_PARAM_KEYS:
				{
					RowSet	   *set = attempt->sets[param->key->step->number];

					*value = collected != NULL && param->key == collected->key ?
						sd_new_key_array(set, param->key, param->column,
										 attempt->seen[collected->number]) :
						sd_key_array(set, param->key, param->column);
					break;
				}
			default:
				*value = sd_due_param(run->plan, &run->bounds, param->source);
		}
	}
	return values;
}

/*
 * Execute a statement for the accounts of the attempt, and call the handler for
 * each row that it returns.  Answers how many there were.  Before, no account is
 * "found".
 */
uint64
sd_for_each_row(Attempt *attempt, PlanStatement *statement, int expected,
				PlanLink *collected, RowHandler handler, void *arg)
{
	for (int i = 0; i < attempt->naccounts; i++)
		attempt->accounts[i]->found = false;
	return for_each(attempt, statement, expected,
					sd_bind(attempt->run, attempt, statement, NULL, collected),
					handler, arg);
}

/* The same of a SELECT whose parameters are given, without a word on accounts */
uint64
sd_for_each_answer(Attempt *attempt, PlanStatement *statement, Datum *values,
				   RowHandler handler, void *arg)
{
	return for_each(attempt, statement, SPI_OK_SELECT,
					sd_bind(attempt->run, attempt, statement, values, NULL),
					handler, arg);
}

static uint64
for_each(Attempt *attempt, PlanStatement *statement, int expected, Datum *values,
		 RowHandler handler, void *arg)
{
	RowReceiver receiver = {
		.pub = *None_Receiver,
		.attempt = attempt,
		.handler = handler,
		.arg = arg
	};
	uint64		nrows;

	receiver.pub.receiveSlot = receive_row;
	receiver.pub.mydest = DestTuplestore;	/* all that SPI asks: not DestSPI */
	receiver.row_context = AllocSetContextCreate(CurrentMemoryContext,
												 "scheduled_deletion row",
												 ALLOCSET_SMALL_SIZES);
	nrows = sd_execute(statement, expected, values, NULL, &receiver.pub);
	MemoryContextDelete(receiver.row_context);
	return nrows;
}

/* Give a row to its handler, in a memory context that is reset after it */
static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;
	MemoryContext caller_context = MemoryContextSwitchTo(receiver->row_context);

	receiver->handler(receiver->attempt, slot, receiver->arg);
	MemoryContextSwitchTo(caller_context);
	MemoryContextReset(receiver->row_context);
	return true;
}

/* Is there a row to which those of a link could lead? */
bool
sd_has_rows(Attempt *attempt, PlanLink *link)
{
	return sd_count_rows(attempt->sets[link->key->step->number]) > 0;
}

/*
 * The row to which the columns of a link lead, which begin with that one of the
 * slot; NULL if there is none.
 */
Row *
sd_row_of_link(Attempt *attempt, PlanLink *link, TupleTableSlot *slot, int column)
{
	Datum		values[INDEX_MAX_KEYS];

	for (int i = 0; i < link->ncolumns; i++)
	{
		bool		is_null;

		values[i] = slot_getattr(slot, column + i, &is_null);
		if (is_null)
			return NULL;
	}
	return sd_find_row(attempt->sets[link->key->step->number], link, values);
}

/* A row that a statement returned must belong to an account of the attempt */
Row *
sd_must_be_there(Row *row)
{
	if (row == NULL)
		elog(ERROR, "a statement touched a row of an account that is not in its batch");
	return row;
}

/* A row that leads to an account by a link was found */
void
sd_found_row(Attempt *attempt, TupleTableSlot *slot, void *arg)
{
	sd_must_be_there(sd_row_of_link(attempt, arg, slot, 1))->account->found = true;
}
