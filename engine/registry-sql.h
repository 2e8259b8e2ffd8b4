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

static inline void finalize_p(sqlite3_stmt **stmt)
{
	sqlite3_finalize(*stmt);
}

#define cleanup_stmt cleanup(finalize_p)

/* What sqlite complained of last. */
int sql_err(struct registry *r, struct err *err);

/* Prepares a statement and binds its parameters: 'i' an int64_t, 's' a text,
 * 'b' a const void * and its size_t of bytes. */
int sql_prepare(struct registry *r, sqlite3_stmt **ret, struct err *err, const char *sql,
		const char *types, ...);

/* 1 with a row, 0 at the end. */
int sql_step(struct registry *r, sqlite3_stmt *stmt, struct err *err);

/* A statement that gives no rows. */
#define sql_execute(r, err, sql, types, ...)                                                     \
	({                                                                                       \
		cleanup_stmt sqlite3_stmt *execute_ = NULL;                                      \
		int r_ = sql_prepare(r, &execute_, err, sql, types __VA_OPT__(,) __VA_ARGS__);   \
		r_ < 0 ? r_ : sql_step(r, execute_, err);                                        \
	})

/* Never NULL; the caller frees it. */
char *sql_text(sqlite3_stmt *stmt, int column);

#endif
