/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the dashboard says, in each of its languages. All of them are in the page, one
 * beside the other; its style sheet shows the one that is chosen. Another language is a
 * column in the table of dashboard-words.c, one more button, and a line in the style sheet.
 */
#ifndef KWS_FS_DASHBOARD_WORDS_H
#define KWS_FS_DASHBOARD_WORDS_H

#include <stdint.h>
#include <stdio.h>

enum word {
	W_AS_OF,
	W_SUMMARY,
	W_VMS,
	W_RUNNING_OF_THEM,
	W_SNAPSHOTS,
	W_HELD_BY_THEM,
	W_TOMBSTONES,
	W_TOMBSTONES_ARE,
	W_JOBS,
	W_JOBS_FAILED,
	W_LIBVIRT,
	W_CONNECTED,
	W_GONE,
	W_ORPHANS,
	W_ORPHANS_ARE,
	W_ORPHANS_UNKNOWN,
	W_ROOM,
	W_FREE,
	W_FULL_IN,
	W_NOT_SOON,
	W_NOT_LESS,
	W_NO_TREND,
	W_OVER,
	W_RUNNING_JOBS,
	W_DISK,
	W_JOB_LEFT,
	W_ERRORS,
	W_NO_ERRORS,
	W_MORE_ERRORS,
	W_POOLS,
	W_POOL,
	W_PUBLISHES,
	W_SPARES,
	W_INSTANCES,
	W_OUTDATED,
	W_RECOVERY,
	W_VM_THAT_FAILS,
	W_SIMILARITY,
	W_BEST_CANDIDATE,
	W_WHAT_IS_DONE,
	W_RUNS_ALREADY,
	W_WOULD_START,
	W_WOULD_CLONE,
	W_NOBODY,
	W_OTHER_SUCCESSORS,
	W_FIND,
	W_OPEN_ALL,
	W_CLOSE_ALL,
	W_NO_VMS,
	W_N_SNAPSHOTS,
	W_NEWEST,
	W_NONE_YET,
	W_LAST_ERROR,
	W_MERGES_FAIL,
	W_DEPTH,
	W_DEPTH_OF,
	W_HELD,
	W_WAITING,
	W_QUIESCE,
	W_NEXT_SNAPSHOT,
	W_NEXT_PRUNE,
	W_TTL,
	W_TREE,
	W_TREE_COLUMN,
	W_SNAPSHOT,
	W_TAKEN,
	W_AGE,
	W_HOLDS,
	W_CONSISTENCY,
	W_DESCRIPTION,
	W_NOW,
	W_CURRENT,
	W_PINNED,
	W_UNTIL,
	W_TAKEN_ON,
	W_NOT_TO_BE_SEEN,
	W_OLDER,
	W_BRANCHES,
	W_SECONDS,
	W_MINUTES,
	W_HOURS,
	W_DAYS,
	W_YEARS,
	W_OFFLINE,
	W_FILESYSTEM,
	W_CRASH,
	W_UNKNOWN,
	W_RUNNING,
	W_SHUT_OFF,
	W_PAUSED,
	W_CRASHED,
	W_SUSPENDED,
	W_SHUTTING_DOWN,
	W_MEANINGS,
	W_MEANS_HOLDS,
	W_MEANS_DEPTH,
	W_MEANS_CONSISTENCY,
	W_MEANS_TOMBSTONE,
	W_MEANS_ORPHAN,
	W_MEANS_TREND,
	W_MEANS_SIMILARITY,
	W_COUNT,
};

void say(enum word w, FILE *out);
/* With a number for the %. */
void say_count(enum word w, uint64_t n, FILE *out);
/* With a number for the first %, and `html` for the second. */
void say_count_with(enum word w, uint64_t n, const char *html, FILE *out);
/* With `html` for the %, which is HTML that says the same in all languages, or says it in
 * each by say(). */
void say_with(enum word w, const char *html, FILE *out);

/* For tests: NULL behind the last language. */
const char *word_in(enum word w, unsigned language);

#endif
