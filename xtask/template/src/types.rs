//! The types of variables, and conversion between them by the rules of HCL (cty's conversions).

use hcl::{Expression, Number, Value};

/// A type constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    String,
    Number,
    Bool,
    List(Box<Type>),
    Map(Box<Type>),
    Object(Vec<(String, Type)>),
}

impl Type {
    /// Parses a type constraint: `string`, `list(string)`, `object({a = number})`.
    pub(super) fn parse(expression: &Expression) -> Result<Self, String> {
        match expression {
            Expression::Variable(name) => match name.as_str() {
                "string" => Ok(Self::String),
                "number" => Ok(Self::Number),
                "bool" => Ok(Self::Bool),
                "any" => Ok(Self::Any),
                "list" | "set" | "tuple" => Ok(Self::List(Box::new(Self::Any))),
                "map" | "object" => Ok(Self::Map(Box::new(Self::Any))),
                other => Err(format!(
                    "`{other}` is not a type: use string, number, bool, any, list(…), set(…), map(…) or object({{…}})"
                )),
            },
            Expression::FuncCall(call) => {
                let inner = call.args.first().ok_or("the type needs an argument")?;
                match call.name.to_string().as_str() {
                    "list" | "set" => Ok(Self::List(Box::new(Self::parse(inner)?))),
                    "map" => Ok(Self::Map(Box::new(Self::parse(inner)?))),
                    "object" => match inner {
                        Expression::Object(fields) => {
                            let field = |(key, value): (&hcl::ObjectKey, &Expression)| {
                                Ok((key.to_string(), Self::parse(value)?))
                            };
                            fields.iter().map(field).collect::<Result<_, String>>().map(Self::Object)
                        }
                        _ => Err("the argument of object must be a map of types in braces".to_owned()),
                    },
                    other => Err(format!("`{other}` is not a type")),
                }
            }
            // `type = "string"` is an old syntax that Packer still accepts.
            Expression::String(name) => {
                let expression: Expression = name.parse().map_err(|_| "not a type constraint".to_owned())?;
                match expression {
                    Expression::String(_) => Err("not a type constraint".to_owned()),
                    expression => Self::parse(&expression),
                }
            }
            _ => Err("not a type constraint".to_owned()),
        }
    }

    /// True if the value of `--var` or an environment variable is used as it is; false if it is parsed as an expression.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::String | Self::Any)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "a bool",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Object(_) => "an object",
        }
    }
}

/// Converts a value. The error message does not contain the value, which may be sensitive.
pub(super) fn convert(value: &Value, to: &Type) -> Result<Value, String> {
    let wrong = || Err(format!("must be {}", to.name()));
    match (to, value) {
        (Type::Any, _) | (_, Value::Null) => Ok(value.clone()),
        (Type::String, Value::String(_)) | (Type::Number, Value::Number(_)) | (Type::Bool, Value::Bool(_)) => {
            Ok(value.clone())
        }
        (Type::String, Value::Number(n)) => Ok(n.to_string().into()),
        (Type::String, Value::Bool(b)) => Ok(b.to_string().into()),
        (Type::Number, Value::String(s)) => s
            .trim()
            .parse()
            .map_err(|_| ())
            .and_then(|n| number(n).map_err(|_| ()))
            .map(Value::Number)
            .or_else(|()| wrong()),
        (Type::Bool, Value::String(s)) => match s.as_str() {
            "true" | "1" => Ok(true.into()),
            "false" | "0" => Ok(false.into()),
            _ => wrong(),
        },
        (Type::List(inner), Value::Array(items)) => {
            items.iter().map(|v| convert(v, inner)).collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        (Type::Map(inner), Value::Object(items)) => {
            let pairs = items.iter().map(|(k, v)| Ok((k.clone(), convert(v, inner)?)));
            pairs.collect::<Result<hcl::Map<_, _>, String>>().map(Value::from)
        }
        (Type::Object(fields), Value::Object(items)) => {
            let field = |(name, inner): &(String, Type)| {
                let value = items.get(name).ok_or_else(|| format!("must have the attribute `{name}`"))?;
                Ok((name.clone(), convert(value, inner).map_err(|e| format!("attribute `{name}` {e}"))?))
            };
            fields.iter().map(field).collect::<Result<hcl::Map<_, _>, String>>().map(Value::from)
        }
        _ => wrong(),
    }
}

/// A number; an integer if it has no fraction.
pub(super) fn number(n: f64) -> Result<Number, String> {
    if n.fract() == 0.0 && n.abs() < 9e15 {
        return Ok(Number::from(n as i64));
    }
    Number::from_f64(n).ok_or_else(|| "not a finite number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ty(text: &str) -> Type {
        Type::parse(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn types_are_parsed_and_unknown_ones_are_errors() {
        assert_eq!(ty("list(map(string))"), Type::List(Box::new(Type::Map(Box::new(Type::String)))));
        assert_eq!(ty("object({ a = number })"), Type::Object(vec![("a".to_owned(), Type::Number)]));
        assert!(Type::parse(&"strng".parse().unwrap()).unwrap_err().contains("not a type"));
    }

    proptest! {
        #[test]
        fn numbers_and_bools_survive_conversion_to_text(n in -1_000_000i64..1_000_000, b: bool) {
            for (value, to) in [(Value::from(n), Type::Number), (Value::from(b), Type::Bool)] {
                let text = convert(&value, &Type::String).unwrap();
                prop_assert_eq!(convert(&text, &to).unwrap(), value);
            }
        }
    }

    #[test]
    fn an_error_does_not_contain_the_value() {
        let error = convert(&"s3cret".into(), &Type::Number).unwrap_err();
        assert_eq!(error, "must be a number");
    }
}
