/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs inputs of a fuzzer without libFuzzer, so that valgrind can watch:
 *
 *   replay-chain FILE...    ends with how many there were
 */
#include "tests/fuzz/must.h"

#include "common/cleanup.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		static uint8_t input[1 << 20];
		cleanup_fclose FILE *f = fopen(argv[i], "rb");
		size_t size;

		fprintf(stderr, "%s\n", argv[i]);
		must(f, "the input can be opened");
		size = fread(input, 1, sizeof(input), f);
		must(feof(f), "the input is not too long");
		LLVMFuzzerTestOneInput(input, size);
	}
	fprintf(stderr, "%d inputs\n", argc - 1);
	return 0;
}
