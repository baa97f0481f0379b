import { DuckDBInstance } from "@duckdb/node-api";

const database = await DuckDBInstance.create(":memory:", { threads: "1" });
const connection = await database.connect();
const result = await connection.runAndReadAll(process.env.DUCKDB_SQL);
const print = (value) => (value === null ? "NULL" : String(value));
console.log(JSON.stringify(result.getRows().map((row) => row.map(print))));
