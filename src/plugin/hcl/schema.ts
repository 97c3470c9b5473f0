/** Shapes of configuration blocks, declared once: Nomad's HCL schema, the decoder and the reference all come from them. */
export type Fields = Readonly<Record<string, Field>>;
export type Field = AttrField | BlockField | BlockListField;

export type AttrType = 'string' | 'number' | 'bool' | 'list(string)';
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
  readonly fields: Fields;
}

interface Values {
  readonly string: string;
  readonly number: number;
  readonly bool: boolean;
  readonly 'list(string)': readonly string[];
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
      : never;

/** What a block of these fields becomes once decoded. */
export type Decoded<F> = { readonly [K in keyof F]: ValueOf<F[K]> };
