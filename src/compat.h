/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between the server versions that are supported; nothing
 *	  else in the project looks at PG_VERSION_NUM.
 *
 * Copyright (c) 2026, scheduled_deletion contributors
 *
 * IDENTIFICATION
 *	  src/compat.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef COMPAT_H
#define COMPAT_H

#if PG_VERSION_NUM < 150000
#error "scheduled_deletion needs PostgreSQL 15 or later"
#endif

/* one function for every kind of object since 16 */
#if PG_VERSION_NUM < 160000
#define sd_namespace_aclcheck(oid, roleid, mode) \
	pg_namespace_aclcheck(oid, roleid, mode)
#else
#define sd_namespace_aclcheck(oid, roleid, mode) \
	object_aclcheck(NamespaceRelationId, oid, roleid, mode)
#endif

/* intervals can be infinite since 17 */
#if PG_VERSION_NUM < 170000
#define sd_is_infinite(interval) false
#else
#define sd_is_infinite(interval) INTERVAL_NOT_FINITE(interval)
#endif

/* foreign keys over periods since 18 */
#if PG_VERSION_NUM < 180000
#define sd_is_period_key(form) false
#else
#define sd_is_period_key(form) ((form)->conperiod)
#endif

/* a bitmap scan asks for several pages at once since 18, and cannot be told how many */
#if PG_VERSION_NUM < 180000
#define sd_get_read_ahead(scan) ((scan)->prefetch_maximum)
#define sd_set_read_ahead(scan, pages) \
	((scan)->prefetch_maximum = (pages), (scan)->prefetch_target = 0)
#else
#define sd_get_read_ahead(scan) 0
#define sd_set_read_ahead(scan, pages) ((void) (scan), (void) (pages))
#endif

/* written before the declaration since 18 */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* the module's name and version, shown by pg_get_loaded_modules() since 18 */
#if PG_VERSION_NUM < 180000
#define SD_MODULE_MAGIC PG_MODULE_MAGIC
#else
#define SD_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "scheduled_deletion", \
						.version = SCHEDULED_DELETION_VERSION)
#endif

/* what a jsonb value is built in keeps the result since 19 */
#if PG_VERSION_NUM < 190000
typedef struct JsonbState
{
	JsonbParseState *stack;
	JsonbValue *result;
} JsonbState;
#define sd_push_jsonb(state, token, value) \
	((state)->result = pushJsonbValue(&(state)->stack, token, value))
#else
typedef JsonbInState JsonbState;
#define sd_push_jsonb(state, token, value) pushJsonbValue(state, token, value)
#endif

/* it tells whether they are volatile, too, since 19 */
#if PG_VERSION_NUM < 190000
#define sd_domain_has_constraints(type) DomainHasConstraints(type)
#else
#define sd_domain_has_constraints(type) DomainHasConstraints(type, NULL)
#endif

/* planners are told of EXPLAIN since 19 */
#if PG_VERSION_NUM < 190000
#define SD_PLANNER_PARAMETERS \
	Query *parse, const char *query_string, int cursor_options, \
	ParamListInfo params
#define SD_PLANNER_ARGUMENTS parse, query_string, cursor_options, params
#else
#define SD_PLANNER_PARAMETERS \
	Query *parse, const char *query_string, int cursor_options, \
	ParamListInfo params, ExplainState *es
#define SD_PLANNER_ARGUMENTS parse, query_string, cursor_options, params, es
#endif

/* 18 lets a scan be counted by whoever explains it */
#if PG_VERSION_NUM >= 180000
#define sd_index_beginscan(table, index, snapshot, nkeys) \
	index_beginscan(table, index, snapshot, NULL, nkeys, 0)
#else
#define sd_index_beginscan(table, index, snapshot, nkeys) \
	index_beginscan(table, index, snapshot, nkeys, 0)
#endif

#endif							/* COMPAT_H */
