/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prints the steps of all operations, one a line: "delete.bury". */
#include "engine/op.h"

int main(void)
{
	for (size_t i = 0; op_kinds[i]; i++)
		for (size_t n = 0; n < op_kinds[i]->n_steps; n++)
			printf("%s.%s\n", op_kinds[i]->name, op_kinds[i]->steps[n].name);
	return 0;
}
