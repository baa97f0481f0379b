package local

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/timeseries/flatbuffer"
	"github.com/golang/protobuf/proto"
)

// seriesRow is a row of a PutTimeseriesData request, unchecked.
type seriesRow struct {
	id     *otsprotocol.TimeseriesKey
	time   int64 // microseconds
	fields []seriesField
}

type seriesField struct {
	name  string
	value value // nil when the request gives none, or more than one
}

// decodeRows reads the rows of a request in any of the forms the SDKs write.
func decodeRows(data *otsprotocol.TimeseriesRows) ([]seriesRow, error) {
	b := data.GetRowsData()
	if len(b) > maxWrite {
		return nil, invalid("The total data size of PutTimeseriesData request exceeds the limit, limit size: %d, data size: %d.", maxWrite, len(b))
	}
	if sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)); data.FlatbufferCrc32C != nil && data.GetFlatbufferCrc32C() != int32(sum) {
		return nil, broken("Rows data broken, checksum is mismatch, %d:%d.", data.GetFlatbufferCrc32C(), int32(sum))
	}
	switch data.GetType() {
	case otsprotocol.RowsSerializeType_RST_FLAT_BUFFER:
		return decodeFlatRows(b)
	case otsprotocol.RowsSerializeType_RST_PROTO_BUFFER:
		return decodeProtoRows(b)
	}
	return nil, unsupported("The rows serialize type " + data.GetType().String())
}

func decodeProtoRows(b []byte) (rows []seriesRow, err error) {
	var all otsprotocol.TimeseriesPBRows
	if err := proto.Unmarshal(b, &all); err != nil {
		return nil, broken("Parse TimeseriesPBRows failed.")
	}
	for _, r := range all.Rows {
		row := seriesRow{id: r.GetTimeseriesKey(), time: r.GetTime()}
		for _, f := range r.Fields {
			row.fields = append(row.fields, seriesField{f.GetFieldName(), protoValue(f)})
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// protoValue is the one value of a field, nil if there is not one.
func protoValue(f *otsprotocol.TimeseriesField) value {
	var values []value
	if f.ValueInt != nil {
		values = append(values, integerValue(f.GetValueInt()))
	}
	if f.ValueString != nil {
		values = append(values, bytesValue(typeString, []byte(f.GetValueString())))
	}
	if f.ValueBool != nil {
		values = append(values, boolValue(f.GetValueBool()))
	}
	if f.ValueDouble != nil {
		values = append(values, float64Value(f.GetValueDouble()))
	}
	if f.ValueBinary != nil {
		values = append(values, bytesValue(typeBinary, f.ValueBinary))
	}
	if len(values) != 1 {
		return nil
	}
	return values[0]
}

func boolValue(v bool) value {
	if v {
		return value{typeBoolean, 1}
	}
	return value{typeBoolean, 0}
}

func float64Value(v float64) value {
	return binary.LittleEndian.AppendUint64(value{typeDouble}, math.Float64bits(v))
}

// flatReader reads FlatBuffers. The reader under it trusts the buffer and panics
// outside it. So does this one when it has read more than a request may write:
// parts of a buffer can be named many times, so that a small one holds a great
// deal.
type flatReader struct{ left int } // bytes that may still be read

func (f *flatReader) take(n int) {
	if f.left -= n; f.left < 0 {
		panic("too much in a buffer")
	}
}

func (f *flatReader) text(b []byte) string {
	f.take(len(b) + 1)
	return string(b)
}

// decodeFlatRows reads rows in groups: of a measurement, with the same fields.
func decodeFlatRows(b []byte) (rows []seriesRow, err error) {
	defer func() {
		if recover() != nil {
			rows, err = nil, broken("Parse FlatBufferRows failed.")
		}
	}()
	f := &flatReader{left: maxWrite}
	all := flatbuffer.GetRootAsFlatBufferRows(b, 0)
	for i := range all.RowGroupsLength() {
		var group flatbuffer.FlatBufferRowGroup
		all.RowGroups(&group, i)
		f.take(1)
		more, err := f.group(&group)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (f *flatReader) group(group *flatbuffer.FlatBufferRowGroup) (rows []seriesRow, err error) {
	if group.FieldNamesLength() != group.FieldTypesLength() {
		return nil, broken("Rows data broken, %d field names and %d types.", group.FieldNamesLength(), group.FieldTypesLength())
	}
	var names []string
	for i := range group.FieldNamesLength() {
		names = append(names, f.text(group.FieldNames(i)))
	}
	measurement := f.text(group.MeasurementName())
	for i := range group.RowsLength() {
		var r flatbuffer.FlatBufferRowInGroup
		group.Rows(&r, i)
		row := seriesRow{id: f.id(measurement, &r), time: r.Time()}
		if row.fields, err = f.fields(names, group, &r); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (f *flatReader) id(measurement string, r *flatbuffer.FlatBufferRowInGroup) *otsprotocol.TimeseriesKey {
	id := &otsprotocol.TimeseriesKey{
		Measurement: proto.String(measurement),
		Source:      proto.String(f.text(r.DataSource())),
	}
	if tags := r.Tags(); len(tags) > 0 {
		id.Tags = proto.String(f.text(tags))
	}
	for i := range r.TagListLength() {
		var tag flatbuffer.Tag
		r.TagList(&tag, i)
		id.TagList = append(id.TagList, &otsprotocol.TimeseriesTag{
			Name:  proto.String(f.text(tag.Name())),
			Value: proto.String(f.text(tag.Value())),
		})
	}
	return id
}

// fields reads the fields of a row, whose values lie by type, those of a type in
// the order of the fields.
func (f *flatReader) fields(names []string, group *flatbuffer.FlatBufferRowGroup, r *flatbuffer.FlatBufferRowInGroup) ([]seriesField, error) {
	var values flatbuffer.FieldValues
	r.FieldValues(&values)
	var used [flatbuffer.DataTypeBINARY + 1]int
	var fields []seriesField
	for i, name := range names {
		kind := group.FieldTypes(i)
		if kind == flatbuffer.DataTypeNONE {
			continue
		}
		if kind < 0 || kind > flatbuffer.DataTypeBINARY {
			return nil, broken("Rows data broken, unknown field type: %d.", kind)
		}
		n := used[kind]
		used[kind]++
		if n >= flatLength(&values, kind) {
			return nil, broken("Rows data broken, field '%s' has no value.", name)
		}
		fields = append(fields, seriesField{name, f.value(&values, kind, n)})
	}
	return fields, nil
}

// flatLength is how many values there are of a type.
func flatLength(values *flatbuffer.FieldValues, kind flatbuffer.DataType) int {
	switch kind {
	case flatbuffer.DataTypeLONG:
		return values.LongValuesLength()
	case flatbuffer.DataTypeBOOLEAN:
		return values.BoolValuesLength()
	case flatbuffer.DataTypeDOUBLE:
		return values.DoubleValuesLength()
	case flatbuffer.DataTypeSTRING:
		return values.StringValuesLength()
	}
	return values.BinaryValuesLength()
}

// value is the nth value of a type.
func (f *flatReader) value(values *flatbuffer.FieldValues, kind flatbuffer.DataType, n int) value {
	f.take(1)
	switch kind {
	case flatbuffer.DataTypeLONG:
		return integerValue(values.LongValues(n))
	case flatbuffer.DataTypeBOOLEAN:
		return boolValue(values.BoolValues(n))
	case flatbuffer.DataTypeDOUBLE:
		return float64Value(values.DoubleValues(n))
	case flatbuffer.DataTypeSTRING:
		return bytesValue(typeString, []byte(f.text(values.StringValues(n))))
	}
	var binary flatbuffer.BytesValue
	values.BinaryValues(&binary, n)
	f.take(binary.ValueLength())
	b := make([]byte, binary.ValueLength())
	for i := range b {
		b[i] = byte(binary.Value(i))
	}
	return bytesValue(typeBinary, b)
}

// seriesType is the type of a value of the PlainBuffer as the requests of the
// timeseries model name it.
func seriesType(t byte) flatbuffer.DataType {
	switch t {
	case typeInteger:
		return flatbuffer.DataTypeLONG
	case typeBoolean:
		return flatbuffer.DataTypeBOOLEAN
	case typeDouble:
		return flatbuffer.DataTypeDOUBLE
	case typeString:
		return flatbuffer.DataTypeSTRING
	}
	return flatbuffer.DataTypeBINARY
}
