/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of features: out of a text, and what of several sources counts. features-xml.c has them
 * in libvirt's XML, features-keep.c in the VM's metadata.
 */
#ifndef KWS_ENGINE_FEATURE_SET_H
#define KWS_ENGINE_FEATURE_SET_H

#include "common/err.h"
#include "engine/recoveries.h"

/* In the domain's metadata; a name, and no address of anything. */
#define FEATURES_NAMESPACE "urn:kwsfs:features"
#define FEATURES_PREFIX "kwsfs" /* of the element, where libvirt shows it with one */

/* Where a guest says what it has, in the form of the file `features`. */
#define FEATURES_GUEST_FILE "/etc/kwsfs/features"
#define FEATURES_GUEST_FILE_MAX 16384 /* bytes */

/* Appends one, which may make the set unsorted. */
void feature_set_add(struct feature_set *set, const char *category, const char *value,
		     enum feature_source source);
/* Sorts, of equal ones by where they are known from, and leaves one of those that are the same. */
void feature_set_sort(struct feature_set *set);
void feature_set_copy(struct feature_set *to, const struct feature_set *from);
bool feature_set_same(const struct feature_set *a, const struct feature_set *b);
bool feature_set_has(const struct feature_set *set, const char *category);

/* What of `all` counts: of each category what the first of its sources says. Sorted. */
void feature_set_count(struct feature_set *ret, const struct feature_set *all);

/* 0, or -EINVAL with a sentence: whether it could be a line of `features`. */
int feature_check(const char *category, const char *value, struct err *err);

/* Takes the blanks at the ends of a text away, and leaves one of those within it. */
void feature_squeeze(char *text);

/* Reads lines "CATEGORY VALUE"; those that are empty or begin with # say nothing. Squeezed and
 * sorted. -EINVAL with a sentence that has the line's number. */
int features_parse(const char *text, enum feature_source source, struct feature_set *ret,
		   struct err *err);

/* A size as it is written in features: "512M", "40G"; in the largest unit up to `largest`, one of
 * "KMGT", of which it is a whole number. The caller frees it. */
char *feature_size(uint64_t bytes, char largest);

/* ---- features-xml.c; xml-tree.h has what takes nodes ---- */

/* The element that is kept in the metadata; "" if nothing is. The caller frees it. */
char *features_to_xml(const struct feature_set *set);

#endif
