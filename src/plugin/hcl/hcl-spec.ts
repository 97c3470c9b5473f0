import { create } from '@bufbuild/protobuf';
import { type Spec, SpecSchema } from '../gen/hclspec_pb.ts';
import type { AttrField, Field, Fields } from './schema.ts';

/** The schema in the form Nomad asks for: an object with every key, defaults included. */
export function hclSpec(fields: Fields): Spec {
  const attributes = Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, fieldSpec(name, field)]),
  );
  return create(SpecSchema, { block: { case: 'object', value: { attributes } } });
}

function fieldSpec(name: string, field: Field): Spec {
  switch (field.kind) {
    case 'attr':
      return attrSpec(name, field);
    case 'block':
      return create(SpecSchema, {
        block: { case: 'blockValue', value: { name, nested: hclSpec(field.fields) } },
      });
    case 'block-list':
      return create(SpecSchema, {
        block: { case: 'blockList', value: { name, nested: hclSpec(field.fields) } },
      });
    case 'block-map':
      return create(SpecSchema, {
        block: {
          case: 'blockMap',
          value: { name, labels: ['name'], nested: hclSpec(field.fields) },
        },
      });
    case 'instead':
      // A block is a value of this type as well.
      return create(SpecSchema, { block: { case: 'attr', value: { name, type: 'any' } } });
    default:
      return field satisfies never;
  }
}

function attrSpec(name: string, field: AttrField): Spec {
  const attr = create(SpecSchema, {
    // Inside a default no name is inherited, so each has its own.
    block: { case: 'attr', value: { name, type: field.type, required: field.required ?? false } },
  });
  // A default keeps the literal's own type: a list's would be a tuple, and blocks of one list must be alike in type.
  // The decoder fills it in.
  if (field.default === undefined || field.type.startsWith('list')) return attr;
  // JSON is an HCL expression as long as no string holds a template.
  const value = JSON.stringify(field.default);
  const literal = create(SpecSchema, { block: { case: 'literal', value: { value } } });
  return create(SpecSchema, {
    block: { case: 'default', value: { primary: attr, default: literal } },
  });
}
