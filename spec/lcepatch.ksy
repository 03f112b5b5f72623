# Kaitai Struct: the bytes of an lcepatch file that can be read without its base, down to the streams of each block. The format itself
# is lcepatch-v1.md; what is `valid` here is only what a field can say for itself. Sections in zstd go through a custom process that
# unpacks one frame. check_registry.py holds this description against the vectors.
meta:
  id: lcepatch
  title: lcepatch, a patch of a model checkpoint, version 1
  file-extension: lcepatch
  license: Apache-2.0
  ks-version: 0.9
  endian: le
doc-ref: lcepatch-v1.md
seq:
  - id: preamble
    type: preamble
  - id: sections
    type: sections
    size: preamble.len_sections
  - id: payload
    type: payload
    size: preamble.len_blocks
instances:
  table:
    doc: TABLE is the second section, since METADATA and DIGESTS are required too, and sections ascend by type.
    value: sections.section[1].table
types:
  varint:
    doc: "§2: a number in base 128, least significant group first."
    seq:
      - id: groups
        type: varint_group
        repeat: until
        repeat-until: _.last
    instances:
      value:
        value: >-
          groups[0].low +
          (groups.size > 1 ? groups[1].low << 7 : 0) +
          (groups.size > 2 ? groups[2].low << 14 : 0) +
          (groups.size > 3 ? groups[3].low << 21 : 0) +
          (groups.size > 4 ? groups[4].low << 28 : 0) +
          (groups.size > 5 ? groups[5].low << 35 : 0) +
          (groups.size > 6 ? groups[6].low << 42 : 0) +
          (groups.size > 7 ? groups[7].low << 49 : 0) +
          (groups.size > 8 ? groups[8].low << 56 : 0) +
          (groups.size > 9 ? groups[9].low << 63 : 0)
  varint_group:
    seq:
      - id: byte
        type: u1
    instances:
      low:
        value: byte & 0x7f
      last:
        value: byte < 0x80
  preamble:
    doc: "§5.1"
    seq:
      - id: magic
        contents: [0x89, 0x4c, 0x43, 0x50, 0x0d, 0x0a, 0x1a, 0x0a]
      - id: version
        type: u2
        valid: 1
      - id: reserved
        type: u2
        valid: 0
      - id: len_sections
        type: u4
        valid:
          max: 67108864
      - id: len_blocks
        type: u8
      - id: reserved_too
        type: u8
        valid: 0
      - id: digest
        doc: The patch id, BLAKE3 of bytes 0 to 31 and of all sections (§11.1).
        size: 32
  sections:
    seq:
      - id: section
        type: section
        repeat: eos
  section:
    doc: "§5.2. METADATA stays bytes: it may hold anything (§6). So does what is of an unknown kind."
    seq:
      - id: kind
        type: u2
        enum: section_kind
      - id: encoding
        type: u1
      - id: reserved
        type: u1
        valid: 0
      - id: len_stored
        type: u4
      - id: len_raw
        type: u4
      - id: stored
        if: not is_packed
        size: len_stored
        type:
          switch-on: kind
          cases:
            section_kind::table: table
            section_kind::digests: digests
            section_kind::statistics: statistics
            section_kind::counterparts: counterparts
      - id: packed
        if: is_packed
        size: len_stored
        process: zstd
        type:
          switch-on: kind
          cases:
            section_kind::table: table
            section_kind::statistics: statistics
    instances:
      is_packed:
        doc: A reader does not unpack what is of an unknown kind.
        value: >-
          encoding == 1 and
          (kind == section_kind::metadata or kind == section_kind::table or kind == section_kind::statistics)
      table:
        if: kind == section_kind::table
        value: "is_packed ? packed.as<table> : stored.as<table>"
  table:
    doc: "§7.1"
    seq:
      - id: block_log2
        type: u1
        valid:
          min: 8
          max: 22
      - id: num_tensors
        type: varint
      - id: tensors
        type: tensor
        repeat: expr
        repeat-expr: num_tensors.value
      - id: tensor_blocks
        type: tensor_blocks(_index)
        repeat: expr
        repeat-expr: num_tensors.value
  tensor:
    seq:
      - id: len_name
        type: varint
      - id: name
        size: len_name.value
        type: str
        encoding: UTF-8
      - id: dtype
        type: u1
        enum: dtype
      - id: rank
        type: varint
      - id: dimensions
        type: varint
        repeat: expr
        repeat-expr: rank.value
    instances:
      num_entries:
        doc: The product of the dimensions, at most 16.
        value: >-
          (rank.value > 0 ? dimensions[0].value : 1) *
          (rank.value > 1 ? dimensions[1].value : 1) *
          (rank.value > 2 ? dimensions[2].value : 1) *
          (rank.value > 3 ? dimensions[3].value : 1) *
          (rank.value > 4 ? dimensions[4].value : 1) *
          (rank.value > 5 ? dimensions[5].value : 1) *
          (rank.value > 6 ? dimensions[6].value : 1) *
          (rank.value > 7 ? dimensions[7].value : 1) *
          (rank.value > 8 ? dimensions[8].value : 1) *
          (rank.value > 9 ? dimensions[9].value : 1) *
          (rank.value > 10 ? dimensions[10].value : 1) *
          (rank.value > 11 ? dimensions[11].value : 1) *
          (rank.value > 12 ? dimensions[12].value : 1) *
          (rank.value > 13 ? dimensions[13].value : 1) *
          (rank.value > 14 ? dimensions[14].value : 1) *
          (rank.value > 15 ? dimensions[15].value : 1)
      num_elements:
        doc: A dtype that is carried as bytes counts its bytes (§7.2).
        value: >-
          dtype == dtype::c64 ? num_entries * 8 :
          dtype == dtype::f4 ? (num_entries * 4 + 7) / 8 :
          dtype == dtype::f6_e2m3 or dtype == dtype::f6_e3m2 ? (num_entries * 6 + 7) / 8 :
          num_entries
  tensor_blocks:
    params:
      - id: index
        type: u4
    seq:
      - id: blocks
        type: table_block
        repeat: expr
        repeat-expr: ((_parent.tensors[index].num_elements - 1) >> _parent.block_log2) + 1
  table_block:
    seq:
      - id: num_selected
        type: varint
      - id: len_block
        type: varint
        if: num_selected.value != 0
  digest:
    seq:
      - id: bytes
        size: 32
  digests:
    doc: "§11.2"
    seq:
      - id: selected_root
        type: digest
      - id: reference_root
        type: digest
      - id: result_root
        type: digest
      - id: base_tensors
        type: digest
        repeat: expr
        repeat-expr: _parent._parent.section[1].table.num_tensors.value
      - id: blocks
        type: digest
        repeat: eos
  statistics:
    doc: "§7.3: BF16 numbers, as their bits."
    seq:
      - id: tensors
        type: tensor_statistics
        repeat: expr
        repeat-expr: _parent._parent.section[1].table.num_tensors.value
  tensor_statistics:
    seq:
      - id: mean
        type: u2
      - id: max
        type: u2
  counterparts:
    doc: "§11.4: one list or three, of a digest for each tensor."
    seq:
      - id: digests
        type: digest
        repeat: eos
  payload:
    seq:
      - id: tensors
        type: tensor_payload(_index)
        repeat: expr
        repeat-expr: _root.table.num_tensors.value
  tensor_payload:
    params:
      - id: index
        type: u4
    seq:
      - id: slots
        type: block_slot(index, _index)
        repeat: expr
        repeat-expr: _root.table.tensor_blocks[index].blocks.size
  block_slot:
    doc: Blocks in which nothing is selected take no bytes.
    params:
      - id: tensor
        type: u4
      - id: index
        type: u4
    seq:
      - id: block
        if: entry.num_selected.value != 0
        size: entry.len_block.value
        type: block
    instances:
      entry:
        value: _root.table.tensor_blocks[tensor].blocks[index]
  block:
    doc: "§8"
    seq:
      - id: directory
        type: stream_entry
        repeat: until
        repeat-until: _.kind == stream_kind::end
      - id: streams
        type: stream(_index)
        repeat: expr
        repeat-expr: directory.size - 1
  stream_entry:
    seq:
      - id: kind
        type: u1
        enum: stream_kind
      - id: codec
        type: u1
        if: kind != stream_kind::end
      - id: len_stream
        type: varint
        if: kind != stream_kind::end
  stream:
    params:
      - id: index
        type: u4
    seq:
      - id: bytes
        size: _parent.directory[index].len_stream.value
enums:
  section_kind:
    0x0001: metadata
    0x0002: table
    0x0003: digests
    0x8004: statistics
    0x8005: counterparts
  stream_kind:
    0: end
    1: positions
    2: deltas
    3: base_values
    4: masks
    5: values_before_pruning
  dtype:
    1: bool
    2: u8
    3: i8
    4: u16
    5: i16
    6: u32
    7: i32
    8: u64
    9: i64
    16: f8_e4m3
    17: f8_e5m2
    18: f16
    19: bf16
    20: f32
    21: f64
    32: c64
    33: f8_e8m0
    34: f8_e4m3fnuz
    35: f8_e5m2fnuz
    36: f4
    37: f6_e2m3
    38: f6_e3m2
