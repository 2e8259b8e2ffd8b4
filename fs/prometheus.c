/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/prometheus.h"

#include "common/mem.h"
#include "common/utf8.h"

#include <inttypes.h>

void prom_metric(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

char *prom_label(const char *text)
{
	char *label = xcalloc(1, 2 * strlen(text) + 1), *to = label;

	while (*text) {
		uint32_t c = 0;
		size_t n = utf8_next(text, SIZE_MAX, &c);

		if (c == '\\' || c == '"' || c == '\n') {
			*to++ = '\\';
			*to++ = c == '\n' ? 'n' : c;
		} else if (n) {
			memcpy(to, text, n);
			to += n;
		} else {
			*to++ = '?';
		}
		text += n ?: 1;
	}
	return label;
}

/* By hand: there may be hundreds of thousands of them, and printf takes its time. */
void prom_sample(FILE *out, const char *name, const char *labels, uint64_t value)
{
	char number[32];

	fputs_unlocked(name, out);
	if (labels) {
		putc_unlocked('{', out);
		fputs_unlocked(labels, out);
		putc_unlocked('}', out);
	}
	snprintf(number, sizeof(number), " %" PRIu64 "\n", value);
	fputs_unlocked(number, out);
}

void prom_histogram(FILE *out, const char *name, const char *help, const struct histogram *h)
{
	uint64_t count = 0;

	prom_metric(out, name, "histogram", help);
	for (size_t i = 0; i < h->n; i++) {
		count += h->counts[i];
		fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, h->bounds[i], count);
	}
	count += h->counts[h->n];
	fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
	fprintf(out, "%s_sum %.9g\n%s_count %" PRIu64 "\n", name, h->sum, name, count);
}
