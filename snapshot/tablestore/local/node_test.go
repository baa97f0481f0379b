package local

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nodeScript writes and reads rows with the Node.js SDK, which checks the
// checksums of what it reads.
const nodeScript = `
const assert = require('assert');
const TableStore = require('tablestore');
const {Long, Condition, RowExistenceExpectation} = TableStore;
const client = new TableStore.Client({
  accessKeyId: 'local', secretAccessKey: 'local', endpoint: process.argv[2], instancename: 'demo', maxRetries: 0,
});
const any = () => new Condition(RowExistenceExpectation.IGNORE, null);
const key = (s, i) => [{s}, {i: Long.fromNumber(i)}];

async function main() {
  await client.createTable({
    tableMeta: {tableName: 't', primaryKey: [{name: 's', type: 'STRING'}, {name: 'i', type: 'INTEGER'}]},
    reservedThroughput: {capacityUnit: {read: 0, write: 0}},
    tableOptions: {timeToLive: -1, maxVersions: 2},
  });
  await client.putRow({
    tableName: 't', condition: any(), primaryKey: key('a', 1),
    attributeColumns: [{text: 'grüße'}, {n: Long.fromString('-9223372036854775808')}, {x: 0.5}, {yes: true}, {blob: Buffer.from([0, 255])}],
  });
  const {row} = await client.getRow({tableName: 't', primaryKey: key('a', 1), maxVersions: 1});
  const got = Object.fromEntries(row.attributes.map(c => [c.columnName, c.columnValue]));
  assert.strictEqual(got.text, 'grüße');
  assert.strictEqual(got.n.toString(), '-9223372036854775808');
  assert.strictEqual(got.x, 0.5);
  assert.strictEqual(got.yes, true);
  assert.deepStrictEqual([...got.blob], [0, 255]);

  await client.updateRow({
    tableName: 't', condition: new Condition(RowExistenceExpectation.EXPECT_EXIST, null), primaryKey: key('a', 1),
    updateOfAttributeColumns: [{PUT: [{text: 'new'}]}, {DELETE_ALL: ['x']}],
  });
  await client.batchWriteRow({tables: [{tableName: 't', rows: [2, 3, 4].map(i => ({
    type: 'PUT', condition: any(), primaryKey: key('a', i), attributeColumns: [{n: Long.fromNumber(i)}], returnContent: {returnType: 1},
  }))}]});
  await client.deleteRow({tableName: 't', condition: any(), primaryKey: key('a', 3)});

  const seen = [];
  let start = [{s: TableStore.INF_MIN}, {i: TableStore.INF_MIN}];
  while (start) {
    const page = await client.getRange({
      tableName: 't', direction: TableStore.Direction.FORWARD, maxVersions: 1, limit: 2,
      inclusiveStartPrimaryKey: start, exclusiveEndPrimaryKey: [{s: TableStore.INF_MAX}, {i: TableStore.INF_MAX}],
    });
    seen.push(...page.rows.map(r => r.primaryKey[1].value.toNumber()));
    start = page.nextStartPrimaryKey && page.nextStartPrimaryKey.map(k => ({[k.name]: k.value}));
  }
  assert.deepStrictEqual(seen, [1, 2, 4]);

  await assert.rejects(client.putRow({
    tableName: 't', condition: new Condition(RowExistenceExpectation.EXPECT_NOT_EXIST, null), primaryKey: key('a', 1), attributeColumns: [{n: 1}],
  }), e => /OTSConditionCheckFail/.test(e.name + e.message + e.code));
  console.log('all is well');
}
main().catch(e => { console.error(e); process.exit(1); });
`

// TestNodeSDK has the Node.js SDK talk to the server. It downloads it, hence
// the variable.
func TestNodeSDK(t *testing.T) {
	if os.Getenv("OTSNAP_NODE") == "" {
		t.Skip("set OTSNAP_NODE=1 to run the Node.js SDK, which is downloaded")
	}
	for _, tool := range []string{"npm", "node"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	s := must[*Server](t)(Open(Options{}))
	defer s.Close()
	h := httptest.NewServer(s)
	defer h.Close()

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rows.js"), []byte(nodeScript), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "tablestore@5.6.5"},
		{"node", "rows.js", h.URL},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, output)
		}
	}
}
