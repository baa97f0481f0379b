import { isDeepStrictEqual } from "node:util";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

const read = async (name) => parquetReadObjects({ file: await asyncBufferFromFile(name), compressors, utf8: false });
const differences = [];
for (const [one, other] of JSON.parse(process.env.PAIRS)) {
  try {
    const [a, b] = [await read(one), await read(other)];
    const at = a.findIndex((row, i) => !isDeepStrictEqual(row, b[i]));
    if (a.length !== b.length || at >= 0) differences.push(`${one}: ${a.length} rows, want ${b.length}; row ${at} differs`);
  } catch (error) {
    differences.push(`${one}: ${error}`);
  }
}
console.log(JSON.stringify(differences));
