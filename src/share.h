/*-------------------------------------------------------------------------
 *
 * share.h
 *	  What share.c and strangers.c know of rows that an attempt shares with others.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/share.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef SHARE_H
#define SHARE_H

#include "run.h"

/* A row leads by a link to something that stays */
typedef struct Stranger
{
	Row		   *row;			/* which must stay for it: the one for which the
								 * row is deleted, or the row itself if that stays
								 * anyhow */
	Oid			table;			/* of the row that is deleted; or ... */
	PlanStep   *above;			/* ... of the one that stays */
	Datum		values[FLEXIBLE_ARRAY_MEMBER];
} Stranger;

/* The strangers of a link */
typedef struct LinkStrangers
{
	PlanLink   *link;
	PlanStatement above;		/* reads what they are, once it is prepared */
	List	   *strangers;		/* Stranger *: not read yet */
} LinkStrangers;

/* What the rows of an attempt share with others; lives as long as it does */
struct Sharing
{
	LinkStrangers *links;		/* by number of the link */
	RowSet	  **above;			/* by step: rows that stay, to which rows lead */
};

/* share.c */
extern void sd_add_lead(Attempt *attempt, Lead lead);

/* strangers.c */
extern void sd_note_stranger(Attempt *attempt, PlanLink *link, const Stranger *who,
							 TupleTableSlot *slot, int column);
extern bool sd_read_strangers(Attempt *attempt);
extern void sd_read_same_values(Attempt *attempt, PlanKey *key);

#endif							/* SHARE_H */
