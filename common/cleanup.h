/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Variables that clean up after themselves when they leave their scope.
 * `goto` is left for rolling back effects outside the process.
 */
#ifndef KWS_COMMON_CLEANUP_H
#define KWS_COMMON_CLEANUP_H

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(fn) __attribute__((cleanup(fn)))

/* Makes `fn_p(T **)`, usable with cleanup(), out of a destructor `fn(T *)`. */
#define DEFINE_CLEANUP(T, fn)                         \
	static inline void fn##_p(T **p)              \
	{                                             \
		fn(*p);                               \
	}                                             \
	struct cleanup_semicolon

static inline void cleanup_free_p(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_p(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_fclose_p(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedir_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static inline void cleanup_unlock_p(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

#define cleanup_free cleanup(cleanup_free_p)
#define cleanup_close cleanup(cleanup_close_p)
#define cleanup_fclose cleanup(cleanup_fclose_p)
#define cleanup_closedir cleanup(cleanup_closedir_p)

/* Holds `m` until the end of the scope. */
#define LOCK_SCOPE(m)                                              \
	cleanup(cleanup_unlock_p) __attribute__((unused))          \
	pthread_mutex_t *lock_scope_ = (pthread_mutex_lock(m), (m))

/* Takes the pointer out of a variable that would free it. */
#define steal_pointer(p)                       \
	({                                     \
		__typeof__(*(p)) stolen_ = *(p); \
		*(p) = NULL;                   \
		stolen_;                       \
	})

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
