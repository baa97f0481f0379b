package local

import (
	"slices"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// schemaCheck walks the schema of a search index.
type schemaCheck struct {
	table   *definition
	fields  int
	vectors int
	nested  bool // there is a field of type NESTED
}

// checkSearchSchema holds the rules for the schema of a search index. The table
// has no schema for attributes, so a field may stand for any column; only of
// those it knows must the types agree.
func (d *definition) checkSearchSchema(schema *otsprotocol.IndexSchema) error {
	check := &schemaCheck{table: d}
	if len(schema.GetFieldSchemas()) == 0 {
		return invalid("[field_schemas] is empty: a search index has at least one field")
	}
	if err := check.list(schema.GetFieldSchemas(), 0); err != nil {
		return err
	}
	if check.fields > maxSearchFields {
		return invalid("the number of fields must be in range: [1, %d], it is %d", maxSearchFields, check.fields)
	}
	if check.vectors > maxVectors {
		return invalid("the number of vector fields must be in range: [0, %d], it is %d", maxVectors, check.vectors)
	}
	if err := d.checkRouting(schema.GetIndexSetting()); err != nil {
		return err
	}
	return checkIndexSort(schema, check.nested)
}

// list checks the fields of one level, the outermost being 0.
func (check *schemaCheck) list(fields []*otsprotocol.FieldSchema, level int) error {
	seen := map[string]bool{}
	for _, f := range fields {
		check.fields++
		if err := checkColumnName(f.GetFieldName()); err != nil {
			return err
		}
		if seen[f.GetFieldName()] {
			return invalid("duplicate field name: '%s'", f.GetFieldName())
		}
		seen[f.GetFieldName()] = true
		if err := check.field(f, level); err != nil {
			return err
		}
	}
	return nil
}

func (check *schemaCheck) field(f *otsprotocol.FieldSchema, level int) error {
	if _, known := otsprotocol.FieldType_name[int32(f.GetFieldType())]; f.FieldType == nil || !known {
		return invalid("field '%s' has an unknown type: %d", f.GetFieldName(), f.GetFieldType())
	}
	for _, rule := range []func(*otsprotocol.FieldSchema) error{checkAnalyzer, checkVector, checkJSON, checkFieldFlags, checkVirtual} {
		if err := rule(f); err != nil {
			return err
		}
	}
	if f.GetFieldType() == otsprotocol.FieldType_VECTOR {
		check.vectors++
	}
	if level == 0 && !f.GetIsVirtualField() {
		if err := check.table.checkFieldType(f); err != nil {
			return err
		}
	}
	return check.subfields(f, level)
}

// subfields checks the fields inside one, which only nested and JSON fields have.
func (check *schemaCheck) subfields(f *otsprotocol.FieldSchema, level int) error {
	n := len(f.GetFieldSchemas())
	switch f.GetFieldType() {
	case otsprotocol.FieldType_NESTED, otsprotocol.FieldType_JSON:
		check.nested = check.nested || f.GetFieldType() == otsprotocol.FieldType_NESTED || f.GetJsonType() == otsprotocol.JsonType_NESTED_JSON
	default:
		if n > 0 {
			return invalid("field '%s' of type %s cannot have field_schemas", f.GetFieldName(), f.GetFieldType())
		}
		return nil
	}
	if n == 0 || n > maxSubfields {
		return invalid("the number of fields in '%s' must be in range: [1, %d], it is %d", f.GetFieldName(), maxSubfields, n)
	}
	if level == maxNesting {
		return invalid("field '%s' is nested too deep, the limit is %d levels", f.GetFieldName(), maxNesting)
	}
	return check.list(f.GetFieldSchemas(), level+1)
}

// Names of analyzers.
const (
	analyzerSingleWord = "single_word"
	analyzerMaxWord    = "max_word"
	analyzerMinWord    = "min_word"
	analyzerSplit      = "split"
	analyzerFuzzy      = "fuzzy"
)

// checkAnalyzer holds the rules for how a text is cut into words.
func checkAnalyzer(f *otsprotocol.FieldSchema) error {
	if f.Analyzer == nil {
		if len(f.GetAnalyzerParameter()) > 0 {
			return invalid("field '%s' has an analyzer_parameter and no analyzer", f.GetFieldName())
		}
		return nil
	}
	if f.GetFieldType() != otsprotocol.FieldType_TEXT {
		return invalid("field '%s' of type %s cannot have an analyzer, only TEXT can", f.GetFieldName(), f.GetFieldType())
	}
	fuzzy := &otsprotocol.FuzzyAnalyzerParameter{}
	var parameter proto.Message
	switch f.GetAnalyzer() {
	case analyzerMaxWord, analyzerMinWord:
		if len(f.GetAnalyzerParameter()) > 0 {
			return invalid("analyzer %s of field '%s' has no parameters", f.GetAnalyzer(), f.GetFieldName())
		}
		return nil
	case analyzerSingleWord:
		parameter = &otsprotocol.SingleWordAnalyzerParameter{}
	case analyzerSplit:
		parameter = &otsprotocol.SplitAnalyzerParameter{}
	case analyzerFuzzy:
		parameter = fuzzy
	default:
		return invalid("field '%s' has an unknown analyzer: '%s'", f.GetFieldName(), f.GetAnalyzer())
	}
	if err := decode(f.GetAnalyzerParameter(), parameter); err != nil {
		return err
	}
	return checkFuzzy(f, fuzzy)
}

// checkFuzzy holds the limits of the fuzzy analyzer: it keeps every piece of a
// text from the least to the greatest length.
func checkFuzzy(f *otsprotocol.FieldSchema, p *otsprotocol.FuzzyAnalyzerParameter) error {
	least, greatest := int32(1), int32(defaultFuzzyChars)
	if p.MinChars != nil {
		least = p.GetMinChars()
	}
	if p.MaxChars != nil {
		greatest = p.GetMaxChars()
	}
	if least < 1 || greatest < least || greatest-least > maxFuzzySpan {
		return invalid("analyzer fuzzy of field '%s': min_chars %d and max_chars %d must be positive and at most %d apart", f.GetFieldName(), least, greatest, maxFuzzySpan)
	}
	return nil
}

func checkVector(f *otsprotocol.FieldSchema) error {
	if f.GetFieldType() != otsprotocol.FieldType_VECTOR {
		if f.VectorOptions != nil {
			return invalid("field '%s' of type %s cannot have vector_options", f.GetFieldName(), f.GetFieldType())
		}
		return nil
	}
	o := f.GetVectorOptions()
	if o == nil || o.DataType == nil || o.MetricType == nil {
		return invalid("field '%s' of type VECTOR needs vector_options with data_type, dimension and metric_type", f.GetFieldName())
	}
	if n := o.GetDimension(); n < 1 || n > maxDimension {
		return invalid("the dimension of field '%s' must be in range: [1, %d], it is %d", f.GetFieldName(), maxDimension, n)
	}
	if f.GetIsArray() {
		return invalid("field '%s' of type VECTOR cannot be an array", f.GetFieldName())
	}
	return nil
}

func checkJSON(f *otsprotocol.FieldSchema) error {
	if is := f.GetFieldType() == otsprotocol.FieldType_JSON; is != (f.JsonType != nil) {
		return invalid("field '%s' of type %s: json_type belongs to fields of type JSON, which need it", f.GetFieldName(), f.GetFieldType())
	}
	return nil
}

// checkFieldFlags holds which types can be sorted by, highlighted or read from
// several formats of dates.
func checkFieldFlags(f *otsprotocol.FieldSchema) error {
	name, t := f.GetFieldName(), f.GetFieldType()
	switch t {
	case otsprotocol.FieldType_TEXT, otsprotocol.FieldType_NESTED, otsprotocol.FieldType_JSON, otsprotocol.FieldType_VECTOR:
		if f.GetSortAndAgg() {
			return invalid("field '%s' of type %s cannot have sort_and_agg", name, t)
		}
	}
	if f.GetEnableHighlighting() && t != otsprotocol.FieldType_TEXT {
		return invalid("field '%s' of type %s cannot have enable_highlighting, only TEXT can", name, t)
	}
	if len(f.GetDateFormats()) > 0 && t != otsprotocol.FieldType_DATE {
		return invalid("field '%s' of type %s cannot have date_formats, only DATE can", name, t)
	}
	if slices.Contains(f.GetDateFormats(), "") {
		return invalid("field '%s' has an empty date format", name)
	}
	return nil
}

// checkVirtual holds the rules for fields that show another column.
func checkVirtual(f *otsprotocol.FieldSchema) error {
	if !f.GetIsVirtualField() {
		if len(f.GetSourceFieldNames()) > 0 {
			return invalid("field '%s' has source_field_names and is not virtual", f.GetFieldName())
		}
		return nil
	}
	if len(f.GetSourceFieldNames()) != 1 {
		return invalid("virtual field '%s' needs one source field name", f.GetFieldName())
	}
	if source := f.GetSourceFieldNames()[0]; source == f.GetFieldName() {
		return invalid("virtual field '%s' is its own source", source)
	}
	return checkColumnName(f.GetSourceFieldNames()[0])
}

// checkFieldType refuses a type that values of a column of the table cannot have.
// A string can carry anything: numbers in an array, a date, a document.
func (d *definition) checkFieldType(f *otsprotocol.FieldSchema) error {
	t, known := d.columnType(f.GetFieldName())
	if !known || t == typeString {
		return nil
	}
	fits := map[byte][]otsprotocol.FieldType{
		typeInteger: {otsprotocol.FieldType_LONG, otsprotocol.FieldType_DATE},
		typeDouble:  {otsprotocol.FieldType_DOUBLE},
		typeBoolean: {otsprotocol.FieldType_BOOLEAN},
		typeBinary:  {otsprotocol.FieldType_VECTOR},
	}
	if f.GetIsArray() || !slices.Contains(fits[t], f.GetFieldType()) {
		return invalid("field '%s' of type %s does not fit its column of type %s", f.GetFieldName(), f.GetFieldType(), typeName(t))
	}
	return nil
}

// columnType is the type of a column of the primary key or a predefined one.
func (d *definition) columnType(name string) (t byte, known bool) {
	for _, k := range d.Key {
		if k.Name == name {
			return k.Type, true
		}
	}
	if i := d.definedColumn(name); i >= 0 {
		return valueType(d.Columns[i].Type), true
	}
	return 0, false
}

// checkRouting holds that rows are spread by columns of their primary key.
func (d *definition) checkRouting(setting *otsprotocol.IndexSetting) error {
	if n := setting.GetNumberOfShards(); setting.GetNumberOfShards() < 0 || n > 1 {
		return invalid("number_of_shards cannot be chosen, it is %d", n)
	}
	for i, name := range setting.GetRoutingFields() {
		if !d.isKeyColumn(name) {
			return invalid("routing field '%s' is not a primary key column of table '%s'", name, d.Name)
		}
		if slices.Contains(setting.GetRoutingFields()[:i], name) {
			return invalid("duplicate routing field: '%s'", name)
		}
	}
	return nil
}

// checkIndexSort holds that an index can be kept in the order of its fields or of
// the primary key, unless it has nested fields, whose rows are several.
func checkIndexSort(schema *otsprotocol.IndexSchema, nested bool) error {
	sorters := schema.GetIndexSort().GetSorter()
	if nested && len(sorters) > 0 {
		return invalid("index_sort cannot be given for an index with nested fields")
	}
	for _, sorter := range sorters {
		if sorter.GetPkSort() != nil {
			continue
		}
		if sorter.GetFieldSort() == nil {
			return invalid("index_sort takes sorters by field and by primary key alone")
		}
		name := sorter.GetFieldSort().GetFieldName()
		i := slices.IndexFunc(schema.GetFieldSchemas(), func(f *otsprotocol.FieldSchema) bool { return f.GetFieldName() == name })
		if i < 0 {
			return invalid("index_sort names '%s', which is not a field of the index", name)
		}
		if !schema.GetFieldSchemas()[i].GetSortAndAgg() {
			return invalid("index_sort names field '%s', whose sort_and_agg is not set", name)
		}
	}
	return nil
}
