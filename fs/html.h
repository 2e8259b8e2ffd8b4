/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text of others in HTML: names and descriptions are hostile. What comes out may stand
 * between tags and inside of a quoted attribute, is UTF-8 whatever went in, and shows
 * what is not to be seen: a control character, and one that turns the direction of
 * the text around, as [U+202E]; bytes that are no UTF-8 as U+FFFD.
 */
#ifndef KWS_FS_HTML_H
#define KWS_FS_HTML_H

#include <stdio.h>

void html_text(const char *s, FILE *out);

/* The same of its first `max` characters, with an ellipsis for the others. */
void html_text_cut(const char *s, size_t max, FILE *out);

#endif
