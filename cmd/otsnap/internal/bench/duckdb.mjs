// Answers each line on standard input, {"sql": statement}, with the time and the
// CPU time the statement took, in microseconds, and the first row of its result.
import { createInterface } from "node:readline";
import { DuckDBInstance } from "@duckdb/node-api";

const database = await DuckDBInstance.create(":memory:");
const connection = await database.connect();
for await (const line of createInterface({ input: process.stdin })) {
  const used = process.cpuUsage();
  const began = process.hrtime.bigint();
  const result = await connection.runAndReadAll(JSON.parse(line).sql);
  const wall = Number((process.hrtime.bigint() - began) / 1000n);
  const { user, system } = process.cpuUsage(used);
  const row = result.getRows().map((r) => r.map(String))[0] ?? [];
  console.log(JSON.stringify({ wall, cpu: user + system, row }));
}
