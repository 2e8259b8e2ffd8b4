/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/ */
#ifndef KWS_FS_PROMETHEUS_H
#define KWS_FS_PROMETHEUS_H

#include "engine/engine.h"

#include <stdio.h>

/* HELP and TYPE, before the samples of a metric. */
void prom_metric(FILE *out, const char *name, const char *type, const char *help);

/* A text as the value of a label: with what has a meaning there escaped, and what is not
 * UTF-8 replaced. The caller frees it. */
char *prom_label(const char *text);

/* One sample. `labels` is what stands between the braces, or NULL. */
void prom_sample(FILE *out, const char *name, const char *labels, uint64_t value);

/* A metric that is a histogram, all of it. */
void prom_histogram(FILE *out, const char *name, const char *help, const struct histogram *h);

#endif
