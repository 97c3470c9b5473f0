/** Shapes of configuration blocks, declared once: Nomad's HCL schema, the decoder and the reference all come from them. */
export type Fields = Readonly<Record<string, Field>>;
export type Field = AttrField | BlockField | BlockListField | BlockMapField | InsteadField;

export type AttrType =
  | 'string'
  | 'number'
  | 'bool'
  | 'list(string)'
  | 'list(map(number))'
  | 'list(map(string))';
type Json = string | number | boolean | readonly string[];

export interface AttrField {
  readonly kind: 'attr';
  readonly type: AttrType;
  /** One or two sentences for the reference. */
  readonly doc: string;
  readonly required?: true;
  readonly default?: Json;
  /** Numbers are whole; the smallest and the largest accepted. */
  readonly min?: number;
  readonly max?: number;
  /** The only texts accepted, and the type of the decoded value. */
  readonly oneOf?: readonly string[];
  /** The value never appears in a message. */
  readonly secret?: true;
  /** An HCL value for the reference. */
  readonly example?: string;
}

export interface BlockField {
  readonly kind: 'block';
  readonly doc: string;
  readonly fields: Fields;
}

/** The block may be written any number of times; order is kept. */
export interface BlockListField {
  readonly kind: 'block-list';
  readonly doc: string;
  /** The number of the first block in messages; 0 when left out. */
  readonly firstIndex?: 0 | 1;
  readonly fields: Fields;
}

/** A block with a label, which is its key: `directory "local" { … }`. Each label once; the order is lost. */
export interface BlockMapField {
  readonly kind: 'block-map';
  readonly doc: string;
  /** A label for the reference. */
  readonly example: string;
  readonly fields: Fields;
}

/**
 * A key of other drivers: known only so that the error can name what to write here, and refused with any value. Not for
 * blocks of a list, which must be alike in type.
 */
export interface InsteadField {
  readonly kind: 'instead';
  /** What to write. */
  readonly use?: string;
  /** Why nothing is to be written. */
  readonly needless?: string;
}

interface Values {
  readonly string: string;
  readonly number: number;
  readonly bool: boolean;
  readonly 'list(string)': readonly string[];
  readonly 'list(map(number))': readonly Readonly<Record<string, number>>[];
  readonly 'list(map(string))': readonly Readonly<Record<string, string>>[];
}

type AttrValue<F, T extends AttrType> = F extends {
  readonly oneOf: infer Texts extends readonly string[];
}
  ? Texts[number]
  : Values[T];

type ValueOf<F> = F extends { readonly kind: 'attr'; readonly type: infer T extends AttrType }
  ? F extends { readonly required: true } | { readonly default: Json }
    ? AttrValue<F, T>
    : AttrValue<F, T> | undefined
  : F extends { readonly kind: 'block'; readonly fields: infer G }
    ? Decoded<G> | undefined
    : F extends { readonly kind: 'block-list'; readonly fields: infer G }
      ? readonly Decoded<G>[]
      : F extends { readonly kind: 'block-map'; readonly fields: infer G }
        ? ReadonlyMap<string, Decoded<G>>
        : undefined;

/** What a block of these fields becomes once decoded. */
export type Decoded<F> = { readonly [K in keyof F]: ValueOf<F[K]> };
