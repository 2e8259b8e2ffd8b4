/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the registry share: sqlite, a little handier. */
#ifndef KWS_ENGINE_REGISTRY_SQL_H
#define KWS_ENGINE_REGISTRY_SQL_H

#include "common/cleanup.h"
#include "engine/registry.h"

#include <sqlite3.h>

struct registry {
	pthread_mutex_t lock; /* one statement, or one transaction, at a time */
	sqlite3 *db;
	int lock_fd;
};

/* Keeps a statement, for the next one who prepares the same. */
void sql_done_with_p(sqlite3_stmt **stmt);

#define cleanup_stmt cleanup(sql_done_with_p)

/* What sqlite complained of last. */
int sql_err(struct registry *r, struct err *err);

/* Prepares a statement and binds its parameters: 'i' an int64_t, 'd' a double,
 * 's' a text, 'b' a const void * and its size_t of bytes. */
int sql_prepare(struct registry *r, sqlite3_stmt **ret, struct err *err, const char *sql,
		const char *types, ...);

/* 1 with a row, 0 at the end. */
int sql_step(struct registry *r, sqlite3_stmt *stmt, struct err *err);

/* From one to the other, what is written outlives the process, and a power cut only once
 * something is written that does: for what can be found out again. The lock is held. */
void sql_begin_lazy(struct registry *r);
void sql_end_lazy(struct registry *r);

static inline void sql_end_lazy_p(struct registry **r)
{
	if (*r)
		sql_end_lazy(*r);
}

/* The rest of a block is lazy. */
#define LAZY_SCOPE(r)                                                                            \
	cleanup(sql_end_lazy_p) struct registry *lazy_ = (r);                                    \
	sql_begin_lazy(lazy_)

/* A statement that gives no rows. */
#define sql_execute(r, err, sql, types, ...)                                                     \
	({                                                                                       \
		cleanup_stmt sqlite3_stmt *execute_ = NULL;                                      \
		int r_ = sql_prepare(r, &execute_, err, sql, types __VA_OPT__(,) __VA_ARGS__);   \
		r_ < 0 ? r_ : sql_step(r, execute_, err);                                        \
	})

/* As the registry has it; NULL is allowed. */
enum consistency sql_consistency(const char *s);

/* Never NULL; the caller frees it. */
char *sql_text(sqlite3_stmt *stmt, int column);

#endif
